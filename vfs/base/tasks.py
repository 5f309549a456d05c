"""Work in the background that belongs to one owner and ends with it. Used on the event loop's thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from vfs.base.errors import ArtisyncError

log = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Tasks:
    """The tasks of one owner. One that fails unexpectedly is logged, whether or not anybody awaits it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work`. After `aclose` nothing starts: the task that is returned is cancelled before its first step."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        if self._closed:
            task.cancel()
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (ArtisyncError, OSError)):
            log.error("a background task failed unexpectedly", exc_info=error)

    async def aclose(self) -> None:
        """Cancel all of them, and wait until they have ended. May be called again."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class SingleFlight(Tasks, Generic[K]):
    """Tasks by key: one per key is in flight at a time, and further callers join it."""

    def __init__(self) -> None:
        super().__init__()
        self._flights: dict[K, asyncio.Task[None]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def start(self, key: K, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """The task of `key`: the one in flight, else a new one that runs `work()`."""
        task = self._flights.get(key)
        if task is None or task.done():
            task = self._flights[key] = self.spawn(work())
            task.add_done_callback(lambda task: self._landed(key, task))
        return task

    def _landed(self, key: K, task: asyncio.Task[None]) -> None:
        if self._flights.get(key) is task:
            del self._flights[key]
