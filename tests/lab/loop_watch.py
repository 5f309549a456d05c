"""Fails a test in which one callback of ours held the event loop for longer than 100 ms of processor time.

`tests/conftest.py` has it for all tests. What the tests' own tasks do is not counted, unless they ask for it: a test
that calls a coroutine of ours without a task between asks for the fixture `watched_loop` and sets `strict`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from vfs.base import loop_watch
from vfs.base.collector import short_rounds

LONG = 2 * loop_watch.LONG
"""Seconds of processor time that a callback may take here: a machine that runs these tests may be half as fast."""


@dataclass(slots=True)
class WatchedLoop:
    """What held the loop in this test."""

    held: loop_watch.Held
    strict: bool = False
    """Count also what runs in tasks of the tests; what was seen before can be forgotten by `held.latest.clear()`."""

    @property
    def long(self) -> list[str]:
        return [
            f"{name} held the loop for {taken * 1000:.0f} ms"
            for taken, name in self.held.latest
            if taken > LONG and (self.strict or not ("/tests/" in name or name.startswith("tests.")))
        ]


@pytest.fixture(autouse=True)
def watched_loop() -> Iterator[WatchedLoop]:
    """Watches the loops of this process. What was there before is no work for the garbage collector, as in a mount."""
    try:
        with short_rounds(), loop_watch.watch() as held:
            watched = WatchedLoop(held)
            yield watched
    finally:
        gc.unfreeze()
    if watched.long:
        pytest.fail("; ".join(watched.long))
