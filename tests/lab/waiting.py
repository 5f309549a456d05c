"""Waiting for something to become true, and the loop's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def eventually(true: Callable[[], object], seconds: float = 6.0) -> bool:
    """Whether the callable becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


def now() -> float:
    """The running event loop's time, in seconds."""
    return asyncio.get_running_loop().time()
