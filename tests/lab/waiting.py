"""Waiting for something to become true or readable, and the loop's time."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from typing import IO


def eventually(true: Callable[[], object], seconds: float = 6.0) -> bool:
    """Whether the callable becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


def readable(file: int | IO[bytes] | IO[str], seconds: float) -> bool:
    """Whether there is something to read, or the end, within `seconds`; also where more than a thousand files are open."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def now() -> float:
    """The running event loop's time, in seconds."""
    return asyncio.get_running_loop().time()
