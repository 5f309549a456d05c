"""Programs on a mount in memory or on a real one, as `Machine` uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.lab.history import History, Kind

Later = list[tuple[float, Callable[[], None]]]


class Handle(Protocol):
    """An open file. Failures are OSError."""

    def read(self, offset: int, length: int, later: Later = ...) -> bytes: ...
    def read_on(self, offset: int) -> bytes:
        """All from there to the end, as a program gets it that reads on at what was the end."""
        ...

    def close(self) -> None: ...


class Client(Protocol):
    """Programs on a mount. `later`: changes on the server, so many seconds after the beginning of the call."""

    ttl: float
    slack: float
    """Seconds by which an answer may be older than it should, for the time that the machine itself takes."""
    history: History

    def now(self) -> float: ...
    def wait(self, seconds: float) -> None: ...
    def look(self, path: bytes, later: Later) -> tuple[Kind, int]:
        """What `lstat` says: the kind, and the size of a file."""
        ...

    def names(self, path: bytes, later: Later) -> set[bytes]: ...
    def read(self, path: bytes, later: Later) -> bytes:
        """Open, read to the end, close."""
        ...

    def open(self, path: bytes) -> Handle: ...
    def evict(self) -> None:
        """Have what is in the mount's memory make way for other files."""
        ...

    def go_offline(self) -> None: ...
    def go_online(self) -> None: ...
    def close(self) -> None: ...
