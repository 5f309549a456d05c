"""The log line of each request: `read{req=12 ino=49 path=/a/f off=0 len=131072}: ok in 31.2 ms`.

It is logged at DEBUG under this module's name. Other lines logged during a request begin with it. Event loop only.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from vfs.base.errnos import errno_of
from vfs.base.errors import ArtisyncError
from vfs.base.printable import printable

log = logging.getLogger(__name__)

T = TypeVar("T")

_numbers = itertools.count(1)


class Subject(Protocol):
    """The file or directory that a call is about: its inode number, and its path on the server."""

    @property
    def ino(self) -> int: ...
    @property
    def path(self) -> bytes: ...


class Call:
    """One request of a program, about `node` if it is known; `details` follow the node's number and path in the log.

    No two calls of a process have the same number.
    """

    __slots__ = ("details", "node", "number", "operation")

    def __init__(self, operation: str, node: Subject | None, **details: object) -> None:
        self.number = next(_numbers)
        self.operation = operation
        self.node = node
        self.details = details

    def __str__(self) -> str:
        about = {"ino": self.node.ino, "path": self.node.path} if self.node is not None else {}
        fields = {"req": self.number, **about, **self.details}
        return f"{self.operation}{{{' '.join(f'{key}={_shown(value)}' for key, value in fields.items())}}}"


_current: ContextVar[Call | None] = ContextVar("current", default=None)
"""The call that this task serves, or was started by."""


def name_call(record: logging.LogRecord) -> bool:
    """For `Handler.addFilter`: a line that is logged while a call is served begins with the call. Passes every record."""
    call = _current.get()
    if call is not None and record.name != __name__:
        record.msg, record.args = f"{call}: {record.getMessage()}", None
    return True


def _shown(value: object) -> str:
    return printable(os.fsdecode(value)) if isinstance(value, bytes) else str(value)


def at_once(operation: str, node: Subject | None, number: int = 0, **details: object) -> None:
    """Log a call that was answered without waiting; `number` is the errno."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s: %s at once", Call(operation, node, **details), _word(number))


async def answer(call: Call, timeout: float | None, work: Coroutine[Any, Any, T]) -> T:
    """What `work`, which serves the call, returns or raises; TimeoutError after `timeout` seconds. Logs how it ended."""
    import asyncio  # not for commands that connect to nothing

    token, began = _current.set(call), time.perf_counter()
    ended = "ok"
    try:
        async with asyncio.timeout(timeout):
            return await work
    except asyncio.CancelledError:
        ended = "cancelled"
        raise
    except (ArtisyncError, OSError) as error:
        ended = f"{_word(errno_of(error))} ({type(error).__name__}: {printable(str(error))})"
        raise
    except Exception:
        ended = "EIO"
        log.exception("%s failed unexpectedly", call)
        raise
    finally:
        _current.reset(token)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s in %.1f ms", call, ended, (time.perf_counter() - began) * 1000)


def _word(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "ok"
