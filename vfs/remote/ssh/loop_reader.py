"""Receives on the event loop's thread, whenever a descriptor is readable.

A thread of its own would have to take the interpreter's lock from the loop, and hand over what it received, some hundred times
for each mebibyte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


class LoopReader:
    """Calls `take` until it is stopped. Threads: `stop` belongs to the loop's thread; the rest to any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = -1
        self._take: Callable[[], bool] = _nothing
        self._watching = self._stopped = False

    def start(self, fd: int, take: Callable[[], bool]) -> None:
        """Call `take` on the loop's thread now, and when `fd` is readable. It must not block; False pauses until `start`.

        `fd` must stay open until `stop`.
        """
        self.call(self._start, fd, take)

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call it on the loop's thread, unless the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        """End it, also before it starts. Idempotent."""
        self._pause()
        self._stopped = True
        self._take = _nothing  # it holds whoever holds this

    def _start(self, fd: int, take: Callable[[], bool]) -> None:
        if self._stopped:
            return
        self._fd, self._take = fd, take
        if take() and not self._stopped:
            self._watching = True
            self._loop.add_reader(fd, self._ready)

    def _ready(self) -> None:
        if not self._take():
            self._pause()

    def _pause(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._fd)


def _nothing() -> bool:
    return False
