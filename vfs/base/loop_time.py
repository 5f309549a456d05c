"""The event loop's clock: all times in `files/` are its seconds."""

from __future__ import annotations

import asyncio


def loop_time() -> float:
    """Seconds, never set back. Raises RuntimeError outside of a loop."""
    return asyncio.get_running_loop().time()
