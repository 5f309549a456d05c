"""No process is forked while one of its threads is inside SQLite.

The child would inherit SQLite's locks, in memory and as SQLite remembers those on files, as that thread held them, and
nobody there would let them go (https://sqlite.org/howtocorrupt.html, 2.6). Connections that are idle at a fork do no
harm: the interpreter closes them in the child, together with the threads that the child does not have.
"""

from __future__ import annotations

import os
import threading
from typing import Any

SECONDS = 5.0
"""The longest that a fork is held off."""

_lock: Any = threading.RLock()


def held_off() -> Any:
    """A lock for whoever uses SQLite. One thread of the process holds it at a time, and may take it again; no fork begins
    meanwhile."""
    return _lock


def _begin_fork() -> None:
    global _held
    _held = _lock.acquire(timeout=SECONDS)


def _end_fork() -> None:
    if _held:
        _lock.release()


def _begin_anew() -> None:
    global _lock
    _lock = threading.RLock()


_held = False
os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_begin_anew)
