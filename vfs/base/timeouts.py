"""Blocking work that cannot be interrupted: it runs on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def on_a_thread(work: Callable[[], T], name: str) -> Future[T]:
    """What `work` returns or raises, on a thread called `name`, which does not keep the process from exiting. Any thread.

    Raises RuntimeError when no thread can be started.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # it cannot be cancelled

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 # it is raised on the thread that asked
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def within(seconds: float, work: Callable[[], T], name: str) -> T:
    """As `on_a_thread`, waited for; TimeoutError after `seconds`, while the work continues."""
    return on_a_thread(work, name).result(seconds)
