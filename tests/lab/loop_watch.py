"""Fails a test in which one callback of ours held the event loop for longer than 100 ms of processor time.

`tests/conftest.py` has it for all tests. What the tests' own tasks do is not counted, unless they ask for it: a test
that calls a coroutine of ours without a task between asks for the fixture `watched_loop` and sets `strict`.

What counts is the processor time of the loop's thread in one callback, so that neither a busy machine nor a callback that sleeps
counts. Reading it is a system call, so it is read every few milliseconds only, and after callbacks that took long by the
clock. All loops of the process are watched.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from vfs.base.collector import short_rounds

LONG = 0.05
"""Seconds for which one callback may hold the loop."""
HERE = 2 * LONG
"""Seconds of processor time that a callback may take here: a machine that runs these tests may be half as fast."""
EVERY = 0.005
"""Seconds between two looks at a thread's processor time; a callback's time may be understated by as much."""

Held = list[tuple[float, str]]
"""Callbacks that held a loop for longer than `LONG`: seconds and name of each."""


@contextmanager
def watch() -> Iterator[Held]:
    """Watch in the block. Blocks may overlap only when the inner one ends first."""
    held: Held = []
    run, now, used = asyncio.Handle._run, time.perf_counter, time.thread_time
    looks: dict[object, tuple[float, float]] = {}
    """Of each loop: the clock and its thread's processor time at the last look."""

    def timed(handle: asyncio.Handle) -> None:
        began = now()
        loop = handle._loop  # type: ignore[attr-defined]
        look = looks.get(loop)
        if look is None or began - look[0] > EVERY:
            look = looks[loop] = began, used()
        run(handle)
        if now() - began <= LONG:
            return
        taken = used() - look[1] - (began - look[0])
        if taken > LONG:
            held.append((taken, _name(handle)))

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield held
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


def _name(handle: asyncio.Handle) -> str:
    """The file or module, and the function, as far as it tells them."""
    callback: Any = getattr(handle, "_callback", None)  # gone once it was cancelled
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine: Any = owner.get_coro()
        code = getattr(coroutine, "cr_code", None)
        return f"{getattr(code, 'co_filename', '')}:{getattr(coroutine, '__qualname__', coroutine)}"
    return f"{getattr(callback, '__module__', '')}.{getattr(callback, '__qualname__', callback)}"


@dataclass(slots=True)
class WatchedLoop:
    """What held the loop in this test."""

    held: Held
    strict: bool = False
    """Count also what runs in tasks of the tests; what was seen before can be forgotten by `held.clear()`."""

    @property
    def long(self) -> list[str]:
        return [
            f"{name} held the loop for {taken * 1000:.0f} ms"
            for taken, name in self.held
            if taken > HERE and (self.strict or not ("/tests/" in name or name.startswith("tests.")))
        ]


@pytest.fixture(autouse=True)
def watched_loop() -> Iterator[WatchedLoop]:
    """Watches the loops of this process. What was there before is no work for the garbage collector, as in a mount."""
    try:
        with short_rounds(), watch() as held:
            watched = WatchedLoop(held)
            yield watched
    finally:
        gc.unfreeze()
    if watched.long:
        pytest.fail("; ".join(watched.long))
