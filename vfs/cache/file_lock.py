"""A file of the cache directory that one process at a time holds a lock on."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 2.0
"""The longest wait for another process."""
LOOK_SECONDS = 0.005


@contextmanager
def locked(path: Path, seconds: float = SECONDS) -> Iterator[bool]:
    """Hold the lock in the block; False if another process has not let it go for `seconds`. Raises OSError. Blocks."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + seconds
        while not (held := _taken(fd)) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        yield held
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough when a forked child has it open too
        os.close(fd)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
