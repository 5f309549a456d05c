"""The seam between what artisync does with files and how bytes are got: `Remote`, `RemoteFile`, `Attributes`.

Everything above this file is driven in tests by a `MemoryRemote`; everything below serves this protocol over SFTP.
All methods are called on the event loop's thread and are coroutines unless said otherwise. They retry over a lost
link by themselves for as long as the caller waits (cancel them to give up) and raise `errors.RemoteError` for what
the server answers, `errors.Unreachable` when the link has been down for longer than the configured timeout.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import NamedTuple, Protocol

from vfs.remote.connectivity import Link

LONGEST_PATH, LONGEST_NAME = 4095, 255
"""Bytes in a path and in a name that Linux takes (PATH_MAX, NAME_MAX)."""
MOST_SYMLINKS = 40
"""Links that lead to one another; the kernel follows as many."""
MOST_AHEAD = 20_000
"""A directory of more names is listed only for a program that waits for it: they take 2 MB on the wire."""


class Attributes(NamedTuple):
    """What SFTP v3 says of a file. Sizes in bytes; times in whole seconds of the server's clock.

    Source: draft-ietf-secsh-filexfer-02, section 5.
    """

    mode: int
    size: int = 0
    mtime: int = 0
    uid: int = 0
    gid: int = 0

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class DirEntry(NamedTuple):
    """One name of a listing with its (not followed) attributes."""

    name: bytes
    attributes: Attributes


class RemoteFile(Protocol):
    """A file opened by path; it may be open on several connections at once, and is reopened by path after a lost link.

    Whether two reads saw the same version is the caller's to check, by the attributes that come with each.
    """

    path: bytes
    attributes: Attributes
    """As FSTAT answered right after the OPEN."""

    async def read(
        self,
        offset: int,
        into: memoryview,
        *,
        bulk: bool = False,
        once: bool = False,
        came: Callable[[], None] | None = None,
    ) -> tuple[int, Attributes]:
        """Fill `into` from `offset` (bytes); the count of bytes (short only at end of file) and the attributes after it.

        `bulk`: other requests may overtake it. `once`: by one READ, of which a short answer is taken as it is, so that all
        bytes are of one moment. `came` is called as soon as the answers are there, while the processor's cache has the last
        bytes; and again if bytes had to be asked for again. Raises RemoteError, Unreachable.

        The reads and the FSTAT behind them are one pipelined batch on one handle. After a failure or a cancellation
        the connection may still write to `into` until it has ended: never reuse that buffer, drop it.
        """
        ...

    def close(self) -> None:
        """Close the server's handles, without waiting. Reads under way are finished first.

        A read that begins later opens the path anew, for itself.
        """
        ...


class Remote(Protocol):
    """A directory tree on a server. Paths are absolute, as bytes.

    Every request raises NoSuchPath, AccessDenied, ServerFailure (what else the server answers) or another
    `errors.RemoteError`, and `errors.Unreachable`; a deadline is the caller's.
    """

    @property
    def link(self) -> Link:
        """The link, always the same object."""
        ...

    @property
    def window(self) -> int:
        """Bytes of reads that fill the link when they are in flight, over all connections; few on a metered link."""
        ...

    @property
    def allowed(self) -> int:
        """Bytes of reads to have in flight just now: the window, or less for a moment while the round trip is measured."""
        ...

    @property
    def piece(self) -> int:
        """Bytes to ask for with one read at most, so that others come in between: 8 KiB to 1 MiB."""
        ...

    @property
    def spare(self) -> int:
        """Bytes of speculative reads that may be in flight: what the link carries in a quarter of a second."""
        ...

    @property
    def early(self) -> int:
        """The same for a reader that has not read enough to be taken for one in sequence: less on a slow link, none on a metered one."""
        ...

    @property
    def soon(self) -> int:
        """Bytes that come within some milliseconds: a reader of the first may well wait for all of them."""
        ...

    @property
    def metered(self) -> bool:
        """Whether bytes cost money: nothing is listed or fetched because it is likely to be wanted soon."""
        ...

    def backlog(self, waiting: int) -> None:
        """Tell how many bytes wait beyond the window, so that more connections can be opened if they would help."""
        ...

    def hurry(self) -> None:
        """Somebody wants the server: where there is no connection, try now, or 2 s after the last attempt."""
        ...

    async def hurried(self) -> None:
        """As `hurry`, and wait until that attempt has ended; at once where there is a connection."""
        ...

    async def lstat(self, path: bytes) -> Attributes:
        """The attributes of what the path names, a symlink itself. One round trip."""
        ...

    async def stat(self, path: bytes) -> Attributes:
        """The attributes of what the path leads to, symlinks followed. One round trip."""
        ...

    async def readlink(self, path: bytes) -> bytes:
        """The text of a symlink. Raises RemoteError for anything else. One round trip."""
        ...

    async def realpath(self, path: bytes) -> bytes:
        """The absolute path with symlinks resolved, as the server says: some only tidy the text. One round trip."""
        ...

    async def scandir(self, path: bytes, wanted: Callable[[], bool] = lambda: True) -> list[DirEntry]:
        """The entries of a directory (without `.` and `..`): all of them, or an error. Hostile names are left out.

        Raises ListingTooLong for one of more than 250,000 names, or than `MOST_AHEAD` while `wanted()` is False.
        """
        ...

    async def statvfs(self, path: bytes) -> os.statvfs_result | None:
        """The figures (`statvfs@openssh.com`) of the file system that holds `path`; None where the server does not tell them."""
        ...

    async def open(self, path: bytes) -> RemoteFile:
        """Open a regular file for reading: of a FIFO the server's process would wait. One round trip; `close` it."""
        ...

    async def aclose(self) -> None:
        """Hang up. Requests in flight raise Unreachable; none may follow."""
        ...
