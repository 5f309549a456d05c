"""The engine's threads under a loop with virtual time: the clock stands still while any of them runs.

`run_engine` puts a `Threads` in the place of `threading` in the engine's modules. None of these threads waits for the loop.
"""

from __future__ import annotations

import threading
import time
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
    """Stands for the module `threading`. May be used from any thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.scarce: Callable[[str], bool] = lambda name: False
        """Whether a thread of that name cannot be started just now."""
        self._alive: set[threading.Thread] = set()
        self.Thread = partial(_Thread, self)

    def busy(self) -> bool:
        """Whether any thread runs."""
        return bool(self._alive)

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


def run_engine(main: Callable[[Threads], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on a loop with virtual time, the engine's threads watched; none of them may be left afterwards."""
    threads = Threads()
    with (
        mock.patch.object(exchange, "threading", threads),
        mock.patch.object(timeouts, "threading", threads),
    ):
        result = run_virtual(main(threads), busy=threads.busy)
    assert threads.left() == []
    return result
