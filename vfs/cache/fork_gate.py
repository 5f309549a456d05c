"""No process is forked while one of its threads is inside SQLite.

The child would inherit SQLite's locks, in memory and as SQLite remembers those on files, as that thread held them, and
nobody there would let them go (https://sqlite.org/howtocorrupt.html, 2.6). Connections that are idle at a fork do no
harm: the interpreter closes them in the child, together with the threads that the child does not have.

Locks: one for each thread, held while it is inside, so that threads do not wait for each other; a fork takes them all.
`_making`, a leaf, guards their list.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 5.0
"""The longest that a fork is held off; a statement waits for another process for much less."""


class _Gate(threading.local):
    """This thread's lock, made when it first comes."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        with _making:
            _locks.add(self.lock)


def _begin_anew() -> None:
    global _gate, _locks, _making, _held
    _making, _locks, _held = threading.Lock(), weakref.WeakSet(), []
    _gate = _Gate()


_making: threading.Lock
_locks: weakref.WeakSet[Any]
_held: list[Any]
_gate: _Gate
_begin_anew()


@contextmanager
def held_off() -> Iterator[None]:
    """No fork begins in the block; waits for one that is under way."""
    with _gate.lock:
        yield


def _begin_fork() -> None:
    end = time.monotonic() + SECONDS
    _making.acquire()
    _held.extend(lock for lock in list(_locks) if lock.acquire(timeout=max(0.0, end - time.monotonic())))


def _end_fork() -> None:
    while _held:
        _held.pop().release()
    _making.release()


os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_begin_anew)
