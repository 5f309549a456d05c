"""Receives on the event loop's thread, whenever a descriptor is readable.

A thread of its own would have to take the interpreter's lock from the loop, and hand over what it received, some hundred times
for each mebibyte.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class LoopReader:
    """Calls `take` until it is stopped. Threads: `stop` belongs to the loop's thread; the rest to any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = -1
        self._take: Callable[[], bool] = _nothing
        self._watching = False
        self._stopped = threading.Event()
        self.started = False
        """Whether everything is received on the loop's thread from now on."""

    def start(self, fd: int, take: Callable[[], bool]) -> None:
        """Call `take` on the loop's thread now, and when `fd` is readable. It must not block; False pauses until `resume`.

        `fd` must stay open until `stop`.
        """
        self.started = True
        if not self._stopped.is_set():
            self._fd, self._take = fd, take
            self.resume()

    def resume(self) -> None:
        """Call `take` again, and go on."""
        try:
            self._loop.call_soon_threadsafe(self._go_on)
        except RuntimeError:  # the loop has ended
            self._stopped.set()

    def wait(self) -> None:
        """Block until it is stopped: `take` is not called any more."""
        self._stopped.wait()

    def stop(self) -> None:
        """End it, also before it starts. Idempotent."""
        self._pause()
        self._stopped.set()
        self._take = _nothing  # it holds whoever holds this

    def _go_on(self) -> None:
        if not self._stopped.is_set() and self._take() and not self._stopped.is_set():
            self._watching = True
            self._loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        if not self._take():
            self._pause()

    def _pause(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._fd)


def _nothing() -> bool:
    return False
