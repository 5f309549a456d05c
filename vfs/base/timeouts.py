"""A deadline for blocking work that cannot be interrupted: it runs on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises; TimeoutError after `seconds`. Any thread.

    Late work continues on its thread, called `name`, which does not keep the process from exiting.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 # it is raised on the thread that asked
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future.result(seconds)
