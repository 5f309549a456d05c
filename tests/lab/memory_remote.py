"""`api.Remote` over a `MemoryTree`: what OpenSSH's sftp-server would answer, with faults that a test scripts.

It belongs to one event loop, made for `virtual_time`: latency is the loop's time. Like the pool it asks again over a
lost link, and gives up with `Unreachable` once the link has been down for `timeout` seconds.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.lab.memory_link import MemoryLink
from tests.lab.memory_tree import Inode, MemoryTree
from vfs.base.errors import (
    AccessDenied,
    ListingTooLong,
    NoSuchPath,
    NotAFile,
    RemoteError,
    ServerFailure,
    Unreachable,
)
from vfs.remote import api
from vfs.remote.api import Attributes, DirEntry

T = TypeVar("T")

READ_SIZE = 255 << 10
"""Bytes that the server reads at a time (`limits@openssh.com`); what changes in between is seen by the next READ."""
PAGE = 100
"""Names in one answer to READDIR."""

_ERRORS: dict[int | None, type[RemoteError]] = {
    errno.ENOENT: NoSuchPath,
    errno.ENOTDIR: NoSuchPath,
    errno.ELOOP: NoSuchPath,
    errno.EACCES: AccessDenied,
}
"""As errno_to_portable in OpenSSH's sftp-server.c; the rest is SSH_FX_FAILURE."""


class _Lost(Exception):
    """The link broke while a request was under way."""


@dataclass(eq=False, slots=True)
class Fault:
    """What happens to `times` requests of a kind (a method's name, or `read`); `path` None: whichever.

    They reach the server `before` seconds late, fail with `error` if there is one, and their answers are `after`
    seconds late.
    """

    kind: str
    path: bytes | None
    times: int
    error: RemoteError | None = None
    before: float = 0.0
    after: float = 0.0


class MemoryRemote:
    """`latency`: seconds of a round trip. `between`: seconds between two READs, or two READDIRs, of one batch."""

    def __init__(
        self, tree: MemoryTree, *, latency: float = 0.0, between: float = 0.0, timeout: float = 30.0
    ) -> None:
        self.tree = tree
        self.latency = latency
        self.between = between
        self.timeout = timeout
        self.link = MemoryLink(latency, tree.clock)
        self.window = 6 << 20
        self.piece = 1 << 20
        self.spare = self.early = 64 << 20
        self.soon = 1 << 20
        self.metered = False
        self.name_max = 255
        """Bytes of a name that the server's file system takes."""
        self.in_flight = 0
        self.backlogs: list[int] = []
        self.hurries = 0
        self.requests: Counter[str] = Counter()
        """What reached the server, by kind: the names of the methods, and `read` (one for each batch)."""
        self.read_ranges: list[tuple[int, int]] = []
        """Offset and length of each batch that the server answered."""
        self.open_handles = 0
        self._faults: list[Fault] = []
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._up: asyncio.Future[None] | None = None
        self._held: asyncio.Future[None] | None = None

    @property
    def allowed(self) -> int:
        return self.window

    @property
    def bytes_read(self) -> int:
        """Bytes of files that were asked for and answered."""
        return sum(length for _, length in self.read_ranges)

    # --- faults ---------------------------------------------------------------------------------------------------

    def fail(self, kind: str, error: RemoteError, path: bytes | None = None, times: int = 1) -> None:
        """Let the next `times` requests of a kind fail."""
        self._faults.append(Fault(kind, path, times, error))

    def delay(self, kind: str, *, before: float = 0.0, after: float = 0.0, times: int = 1) -> None:
        """Let the next `times` requests of a kind, or their answers, be overtaken by others."""
        self._faults.append(Fault(kind, None, times, None, before, after))

    def go_offline(self) -> None:
        """Break the link: what is under way is asked again on the next one."""
        if self.link.connected:
            self.link.changed(connected=False, at=self._loop.time() - self.link.silence)
            self._up = self._loop.create_future()
            self._broken.set_result(None)

    def go_online(self) -> None:
        """Have a link again; the server's handles of the old one are gone."""
        if self._up is not None:
            self.link.changed(connected=True, at=self._loop.time())
            self._broken = self._loop.create_future()
            self._up.set_result(None)
            self._up = None

    def go_silent(self) -> None:
        """Answer nothing from now on, over a link that looks sound."""
        if self._held is None:
            self._held = self._loop.create_future()

    def go_on(self) -> None:
        """Answer again, first what was held back."""
        if self._held is not None:
            self._held.set_result(None)
            self._held = None

    # --- Remote -----------------------------------------------------------------------------------------------------

    def backlog(self, waiting: int) -> None:
        self.backlogs.append(waiting)

    def hurry(self) -> None:
        self.hurries += 1

    async def hurried(self) -> None:
        self.hurry()

    async def lstat(self, path: bytes) -> Attributes:
        def answer() -> Attributes:
            if len(path.rpartition(b"/")[2]) > self.name_max:
                raise OSError(errno.ENAMETOOLONG, "name too long")
            return attributes_of(self.tree.find(path, follow=False))

        return await self._ask("lstat", path, answer)

    async def stat(self, path: bytes) -> Attributes:
        return await self._ask("stat", path, lambda: attributes_of(self.tree.find(path)))

    async def readlink(self, path: bytes) -> bytes:
        def answer() -> bytes:
            inode = self.tree.find(path, follow=False)
            if not stat.S_ISLNK(inode.mode):
                raise OSError(errno.EINVAL, "not a link")
            return inode.target

        return await self._ask("readlink", path, answer)

    async def realpath(self, path: bytes) -> bytes:
        return await self._ask("realpath", path, lambda: self.tree.realpath(path))

    async def scandir(self, path: bytes, wanted: Callable[[], bool] = lambda: True) -> list[DirEntry]:
        """Names as they were at the beginning; attributes as each page is made, without what vanished meanwhile."""

        async def answer() -> list[DirEntry]:
            directory = self.tree.find(path)
            if not stat.S_ISDIR(directory.mode):
                raise OSError(errno.ENOTDIR, "not a directory")
            _readable(directory)
            names = list(directory.children)
            entries: list[DirEntry] = []
            for start in range(0, len(names), PAGE):
                if start:
                    await self._pass(self.between)
                for name in names[start : start + PAGE]:
                    inode = directory.children.get(name)
                    if inode is not None:
                        entries.append(DirEntry(name, attributes_of(inode)))
                if len(entries) > api.MOST_AHEAD and not wanted():
                    raise ListingTooLong(repr(path))
            return entries

        return await self._ask("scandir", path, answer)

    async def statvfs(self, path: bytes) -> os.statvfs_result | None:
        def answer() -> os.statvfs_result:
            self.tree.find(path)
            return os.statvfs_result((4096, 4096, 1000, 500, 400, 100, 50, 50, 0, self.name_max))

        return await self._ask("statvfs", path, answer)

    async def open(self, path: bytes) -> MemoryFile:
        file = MemoryFile(self, path)
        await file.reopen()
        return file

    async def aclose(self) -> None:
        """Break the link for good."""
        self.go_offline()
        self.link._changed = float("-inf")

    # --- below --------------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> object:
        """Stands for the present link: handles are good on the one that they were opened on."""
        return self._broken

    async def _ask(self, kind: str, path: bytes, answer: Callable[[], T | Awaitable[T]]) -> T:
        """The answer one round trip later; the server looks at the half of it."""
        while True:
            await self._connected()
            request = object()
            self.link.waiting[request] = self._loop.time()
            fault = self._fault(kind, path)
            try:
                await self._pass(self.latency / 2 + fault.before)
                self.requests[kind] += 1
                outcome: T | RemoteError = await self._answer(path, answer)
                if fault.error is not None:
                    outcome = type(fault.error)(str(fault.error))
                await self._pass(self.latency / 2 + fault.after)
            except _Lost:
                continue
            finally:
                del self.link.waiting[request]
                self.link.last_received = self._loop.time()
            if isinstance(outcome, RemoteError):
                raise outcome
            return outcome

    async def _answer(self, path: bytes, answer: Callable[[], T | Awaitable[T]]) -> T | RemoteError:
        try:
            result = answer()
            return await result if isinstance(result, Awaitable) else result
        except OSError as error:
            return _ERRORS.get(error.errno, ServerFailure)(f"{path!r}: {error.strerror}")
        except RemoteError as error:
            return error

    async def _connected(self) -> None:
        if self._up is None:
            return
        left = self.link.since + self.timeout - self._loop.time()
        if left > 0:
            await asyncio.wait({self._up}, timeout=left)
        if not self.link.connected:
            raise Unreachable("the link is down")

    async def _pass(self, seconds: float) -> None:
        """Let time go by, more of it while the server is silent. Raises _Lost when the link breaks."""
        broken = self._broken
        await asyncio.wait({broken}, timeout=seconds)
        while self._held is not None and not broken.done():
            await asyncio.wait({broken, self._held}, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise _Lost

    def _fault(self, kind: str, path: bytes) -> Fault:
        for fault in self._faults:
            if fault.kind == kind and fault.path in (None, path):
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                return fault
        return Fault(kind, path, 0)


class MemoryFile:
    """`api.RemoteFile`: a handle of one inode, opened by path anew on another link."""

    def __init__(self, remote: MemoryRemote, path: bytes) -> None:
        self.path = path
        self.attributes = Attributes(0)
        self._remote = remote
        self._inode: Inode | None = None
        self._connection: object = None
        self._reading = 0
        self._closed = False

    async def reopen(self) -> None:
        """Open the path."""

        def answer() -> Inode:
            inode = self._remote.tree.find(self.path)
            _readable(inode)
            self.attributes = attributes_of(inode)
            if not stat.S_ISREG(inode.mode):
                raise NotAFile(repr(self.path))
            return inode

        inode = await self._remote._ask("open", self.path, answer)
        if self._inode is None:
            self._remote.open_handles += 1
        self._inode, self._connection = inode, self._remote.connection

    async def read(
        self,
        offset: int,
        into: memoryview,
        *,
        bulk: bool = False,
        once: bool = False,
        came: Callable[[], None] | None = None,
    ) -> tuple[int, Attributes]:
        """See `api.RemoteFile`."""
        self._reading += 1
        self._remote.in_flight += len(into)
        try:
            answer = await self._remote._ask("read", self.path, lambda: self._read(offset, into, once))
            if came is not None:
                came()
            return answer
        finally:
            self._remote.in_flight -= len(into)
            self._reading -= 1
            self._let_go()

    async def _read(self, offset: int, into: memoryview, once: bool) -> tuple[int, Attributes]:
        if self._inode is None or self._connection is not self._remote.connection:
            await self.reopen()
        inode = self._inode
        assert inode is not None
        count = 0
        while count < len(into):
            if count:
                await self._remote._pass(self._remote.between)
            start = offset + count
            piece = inode.data[start : start + min(READ_SIZE, len(into) - count)]
            if not piece:
                break
            into[count : count + len(piece)] = piece
            count += len(piece)
            if once:
                break
        self._remote.read_ranges.append((offset, len(into)))
        return count, attributes_of(inode)

    def close(self) -> None:
        """See `api.RemoteFile`."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._reading and self._inode is not None:
            self._remote.open_handles -= 1
            self._inode = None


def attributes_of(inode: Inode) -> Attributes:
    """As the server would tell them."""
    return Attributes(inode.mode, inode.size, inode.mtime)


def _readable(inode: Inode) -> None:
    if not inode.mode & 0o400:
        raise OSError(errno.EACCES, "permission denied")
