"""The READs of one range of a file and the FSTAT behind them: which bytes have come, and which are missing."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from vfs.base.errors import ArtisyncError, LinkLost, NotAFile
from vfs.remote.api import Attributes
from vfs.remote.sftp.handles import Handle
from vfs.remote.sftp.wire import Code, Status, Value, error_of

REFUSALS = (Code.PERMISSION_DENIED, Code.FAILURE, Code.OP_UNSUPPORTED)
"""How servers refuse a request whatever it is about."""


class FstatRefused(LinkLost):
    """The READs were answered and FSTAT was refused, so that this server never answers it."""


@dataclass(slots=True, eq=False)
class Batch:
    """Fills `into` from `offset` of the file behind `handle`."""

    future: asyncio.Future[tuple[int, Attributes]]
    handle: Handle
    offset: int
    into: memoryview
    sent: float
    about: bytes
    since: float
    """When the caller began, in the loop's time: attributes must not be older."""
    once: bool
    """The rest of a short answer is not asked for."""
    came: Callable[[], None] | None
    """Called with the last answer of a round."""
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Those in flight, by request id: offset in `into`, and length."""
    missing: int = 0
    """Answers of this round that are outstanding."""
    short: list[tuple[int, int]] = field(default_factory=list)
    """The rest of the parts that came short, to be asked for again."""
    attributes: Attributes | None = None
    error: Status | None = None
    """Why bytes are missing."""
    attributes_error: Status | None = None
    _came: dict[int, int] = field(default_factory=dict)
    """By offset in `into`: bytes received."""

    def split(self, most: int) -> list[tuple[int, int]]:
        """Parts of the range, of about the same size and `most` bytes each at most."""
        size = len(self.into)
        if not size:
            return []
        pieces = -(-size // most)
        step = -(-size // pieces)
        step = min(most, step + -step % 4096)
        return [(at, min(step, size - at)) for at in range(0, size, step)]

    def take(self, request_id: int, value: int | Value) -> bool:
        """Take in an answer. Returns whether it was the last one of this round."""
        at, length = self.parts.pop(request_id, (-1, 0))
        if isinstance(value, int):
            self._came[at] = value
            if value < length and not self.once:
                self.short.append((at + value, length - value))
        elif isinstance(value, Attributes):
            self.attributes = value
        elif isinstance(value, Status) and at < 0:
            self.attributes_error = value
        elif isinstance(value, Status) and value.code != Code.EOF:
            self.error = value
        self.missing -= 1
        if self.missing:
            return False
        if self.came is not None:
            self.came()
        return True

    @property
    def failed(self) -> bool:
        """Whether the bytes cannot be used."""
        return self.error is not None or self.attributes_error is not None

    def outcome(self) -> tuple[int, Attributes] | ArtisyncError:
        """The count and the attributes, or what to raise. `LinkLost`: ask again, with a handle that is opened anew."""
        if not self.handle.open:
            return LinkLost("the server gave out the handle for another file, too")
        if any(status is not None and status.code == Code.NO_SUCH_FILE for status in self._of_the_handle):
            return LinkLost("the server does not know the handle any more")
        if self.error is not None:
            return _no_file(self.attributes, self.about) or error_of(self.error, self.about)
        if self.attributes is None:
            status = self.attributes_error
            assert status is not None
            if self.handle.before is None and status.code in REFUSALS:
                return FstatRefused(status.message or f"status {status.code}")
            return error_of(status, self.about)
        if self.handle.before is not None and self.handle.asked < self.since:
            before = self.handle.before
            known = before.done() and before.exception() is None
            if not known or before.result()[:3] != self.attributes[:3]:
                return LinkLost("the path changed since it was opened")
        return self.count, self.attributes

    @property
    def _of_the_handle(self) -> tuple[Status | None, ...]:
        """The answers about the handle. OpenSSH reports EBADF of a handle as it does ENOENT of a path."""
        return (self.error, self.attributes_error) if self.handle.before is None else (self.error,)

    @property
    def count(self) -> int:
        """Bytes received from the beginning of `into` up to the first gap."""
        count = 0
        while got := self._came.get(count, 0):
            count += got
        return count


def only_file(attributes: Attributes, path: bytes) -> None:
    """Raises NotAFile if the server says that the path is something else than a regular file."""
    error = _no_file(attributes, path)
    if error is not None:
        raise error


def _no_file(attributes: Attributes | None, path: bytes) -> NotAFile | None:
    kind = stat.S_IFMT(attributes.mode) if attributes is not None else 0
    return NotAFile(f"{path!r} is no longer a file") if kind not in (0, stat.S_IFREG) else None
