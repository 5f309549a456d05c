"""The engine's threads under a loop with virtual time: the clock stands still while any of them has something to do.

`run_engine` puts a `Threads` in the place of `threading` and `queue` in the engine's modules. Every place where one of
those threads can wait (the writer's queue, what a `FakeServer` has sent) goes through `Threads.wait`, so that it is known
for certain when all of them wait. One lock, `Threads.changed`, guards all of it; what it guards is changed under it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from unittest import mock

from tests.lab.virtual_time import run_virtual
from vfs.base import timeouts
from vfs.remote.sftp import exchange

T = TypeVar("T")

_LEFT_SECONDS = 10.0
"""Real seconds within which the engine's threads must have ended after a test."""


class Threads:
    """Stands for the modules `threading` and `queue`. May be used from any thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.scarce: Callable[[str], bool] = lambda name: False
        """Whether a thread of that name cannot be started just now."""
        self._alive: set[threading.Thread] = set()
        self._waiting: list[Callable[[], bool]] = []
        self.Thread = partial(_Thread, self)
        self.SimpleQueue = partial(_Queue, self)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`; to be called, and `ready` is called, with `changed` held."""
        self._waiting.append(ready)
        try:
            self.changed.wait_for(ready)
        finally:
            self._waiting.remove(ready)

    def busy(self) -> bool:
        """Whether any thread has something to do."""
        with self.changed:
            return len(self._alive) > len(self._waiting) or any(ready() for ready in self._waiting)

    def left(self) -> list[str]:
        """The names of the threads that have not ended within some seconds."""
        end = time.monotonic() + _LEFT_SECONDS
        with self.changed:
            while self._alive and self.changed.wait(end - time.monotonic()):
                pass
            return sorted(thread.name for thread in self._alive)


class _Thread(threading.Thread):
    def __init__(self, threads: Threads, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._threads = threads

    def start(self) -> None:
        if self._threads.scarce(self.name):
            raise RuntimeError("can't start new thread")
        with self._threads.changed:
            self._threads._alive.add(self)
        super().start()

    def run(self) -> None:
        try:
            super().run()
        finally:
            with self._threads.changed:
                self._threads._alive.remove(self)
                self._threads.changed.notify_all()


class _Queue:
    """What the engine uses of `queue.SimpleQueue`."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        with self._threads.changed:
            self._items.append(item)
            self._threads.changed.notify_all()

    def get(self) -> Any:
        with self._threads.changed:
            self._threads.wait(lambda: bool(self._items))
            return self._items.popleft()

    def empty(self) -> bool:
        return not self._items


def run_engine(main: Callable[[Threads], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on a loop with virtual time, the engine's threads watched; none of them may be left afterwards."""
    threads = Threads()
    with (
        mock.patch.object(exchange, "threading", threads),
        mock.patch.object(exchange, "queue", threads),
        mock.patch.object(timeouts, "threading", threads),
    ):
        result = run_virtual(main(threads), busy=threads.busy)
    assert threads.left() == []
    return result
