"""Counts the callbacks that hold an event loop for long, so that every program which uses the mount waits for them.

What counts is the processor time of the loop's thread in one callback, so that neither a busy machine nor a callback that sleeps
counts. Reading it is a system call, so it is read every few milliseconds only, and after callbacks that took long by the
clock. All loops of the process are watched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

LONG = 0.05
"""Seconds for which one callback may hold the loop."""
EVERY = 0.005
"""Seconds between two looks at a thread's processor time; a callback's time may be understated by as much."""
_KEPT = 20


@dataclass(slots=True)
class Held:
    """What a watch has seen. Written by the threads of the loops, each with single operations."""

    count: int = 0
    """Callbacks that held a loop for longer than `LONG`."""
    longest: float = 0.0
    """Seconds, of the longest of all callbacks that were counted."""
    latest: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    """Seconds and names of the latest of them."""

    def status(self) -> dict[str, Any]:
        """For `artisync status`."""
        return {"held": self.count, "longest_ms": round(self.longest * 1000)}


@contextmanager
def watch() -> Iterator[Held]:
    """Count in the block. Blocks may overlap only when the inner one ends first."""
    held = Held()
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
            held.count += 1
            held.longest = max(held.longest, taken)
            name = _name(handle)
            held.latest.append((taken, name))
            log.debug("the loop was held for %.0f ms by %s", taken * 1000, name)

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
