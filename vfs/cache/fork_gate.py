"""No process is forked while one of its threads is inside SQLite.

The child would inherit SQLite's locks, in memory and as SQLite remembers those on files, as that thread held them, and
nobody there would let them go (https://sqlite.org/howtocorrupt.html, 2.6). Connections that are idle at a fork do no
harm: the interpreter closes them in the child, together with the threads that the child does not have.

Lock: `_Gate` owns one, which guards its counts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 5.0
"""The longest that a fork is held off; a statement waits for another process for much less."""


class _Gate:
    """Threads that are inside, and forks that wait until none is. One thread may enter several times."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0
        self._thread = threading.local()

    def enter(self) -> None:
        depth = getattr(self._thread, "depth", 0)
        self._thread.depth = depth + 1
        if depth == 0:
            with self._changed:
                self._changed.wait_for(lambda: self._forks == 0)
                self._inside += 1

    def leave(self) -> None:
        self._thread.depth -= 1
        if self._thread.depth == 0:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def begin_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, SECONDS)

    def end_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_gate = _Gate()


@contextmanager
def held_off() -> Iterator[None]:
    """No fork begins in the block; waits for one that is under way."""
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


def _begin_anew() -> None:
    global _gate
    _gate = _Gate()


os.register_at_fork(
    before=lambda: _gate.begin_fork(),
    after_in_parent=lambda: _gate.end_fork(),
    after_in_child=_begin_anew,
)
