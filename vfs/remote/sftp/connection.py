"""One SFTP connection: the requests, and the limits and faults of its server.

Belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import posixpath
import weakref
from collections.abc import Callable
from typing import TypeVar

from vfs.base.errors import LinkLost, ProtocolViolation, RemoteError
from vfs.remote.api import Attributes, DirEntry
from vfs.remote.sftp import wire
from vfs.remote.sftp.batch import Batch, FstatRefused
from vfs.remote.sftp.exchange import Exchange, seen
from vfs.remote.sftp.handles import Handle, Handles
from vfs.remote.sftp.wire import PacketType, Status
from vfs.remote.ssh.transport import Transport

log = logging.getLogger(__name__)
T = TypeVar("T")

PAGE = 4096
"""lsh's server answers a READ of less than whole pages with the rest of the file, however long that is."""

PROCESS = b"/proc/self"
"""On Linux a symlink to a directory that is as old as the server's process."""

SMALL_ANSWER = 2048
"""Estimate of the bytes of an answer without file data: a page of a listing is more, attributes are less."""


class Connection(Exchange):
    """An SFTP session. Made on the loop's thread; `start` shakes hands; `close` may be called at any time.

    `lost` is called on the loop's thread, once, when the connection has ended.
    """

    def __init__(self, transport: Transport, lost: Callable[[Connection], None]) -> None:
        super().__init__(transport)
        self._lost = lost
        self._read_size = wire.DEFAULT_READ
        self._page = PAGE
        """READs are for a multiple of this many bytes; surplus bytes are dropped."""
        self._statvfs = False
        self.refused: set[PacketType] = set()
        """Requests that this server refuses whatever they are about, or answers wrongly; see `substitutes`."""
        mine = weakref.proxy(self)  # in no cycle: the garbage collector never frees one that it has frozen
        self._handles = Handles(lambda text: mine._request(PacketType.STATUS, PacketType.CLOSE, text))
        self.in_flight = 0
        """Bytes of reads asked for and not yet answered, and of those that wait until their file is open here."""
        self.load = lambda: mine.due_bytes
        self.server_clock: tuple[int, float] | None = None
        """The server's Unix time, and a moment of the loop's at or after which it was read: together a low estimate."""

    @property
    def due_bytes(self) -> int:
        """Bytes that are due on this connection, small answers by estimate."""
        return self.in_flight + SMALL_ANSWER * len(self._waiting)

    async def start(self) -> None:
        """Shake hands, and learn the server's limits and clock.

        Raises LinkLost and ProtocolViolation.
        """
        extensions = await self._begin()
        self._statvfs = b"statvfs@openssh.com" in extensions
        process, link = self.stat(PROCESS), self.lstat(PROCESS)
        link.add_done_callback(seen)
        if b"limits@openssh.com" in extensions:
            try:
                _, most, _, handles = await self._extended(b"limits@openssh.com", None, wire.parse_limits)
                self._handles.limit(handles)
                self._page = 1
                if most:
                    self._read_size = min(max(most, 4096), wire.MAX_READ)
            except RemoteError as error:
                log.debug("no limits: %s", error)
        try:
            # The inode of our own server process is made at this first look, so its mtime is the present time.
            attributes = await process
            if attributes.mtime > 0:
                self.server_clock = attributes.mtime, self._loop.time()
            if not (await link).is_symlink:
                self.refused.add(PacketType.LSTAT)
                log.info("the server's LSTAT follows symlinks; READLINK tells which there are")
        except RemoteError as error:
            log.debug("no clock: %s", error)

    # --- requests -------------------------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> asyncio.Future[Attributes]:
        return self._request(PacketType.ATTRS, PacketType.LSTAT, path)

    def stat(self, path: bytes) -> asyncio.Future[Attributes]:
        return self._request(PacketType.ATTRS, PacketType.STAT, path)

    async def readlink(self, path: bytes) -> bytes:
        """The text of a symlink, as the server gives it."""
        return self._one_name(await self._request(PacketType.NAME, PacketType.READLINK, path))

    async def realpath(self, path: bytes) -> bytes:
        """An absolute path without `.`, `..` or NUL."""
        path = self._one_name(await self._request(PacketType.NAME, PacketType.REALPATH, path))
        if not path.startswith(b"/"):
            raise self.violated(f"a real path that is not absolute: {path!r}")
        return posixpath.normpath(path)

    async def statvfs(self, path: bytes) -> os.statvfs_result | None:
        """None where the server does not offer it."""
        if not self._statvfs:
            return None
        return await self._extended(b"statvfs@openssh.com", path, wire.parse_statvfs)

    def open(self, path: bytes) -> asyncio.Future[Handle]:
        """The handle of a file opened for reading."""
        return self._handles.open(
            lambda: self._request(PacketType.HANDLE, PacketType.OPEN, path, wire.FOR_READING),
            lambda: self.stat(path) if PacketType.FSTAT in self.refused else None,
        )

    def opendir(self, path: bytes) -> asyncio.Future[Handle]:
        """The handle of a directory; the caller closes it."""
        return self._handles.open(
            lambda: self._request(PacketType.HANDLE, PacketType.OPENDIR, path), directory=True
        )

    def close_handle(self, handle: Handle) -> None:
        """Close a handle without waiting. Idempotent."""
        if self.alive:
            self._handles.close(handle)

    def readdir(self, handle: Handle, about: bytes) -> asyncio.Future[list[DirEntry] | Status]:
        """Some more names, or the status that says there are none."""
        return self._request(PacketType.NAME, PacketType.READDIR, handle.text, about=about)

    def read(
        self,
        handle: Handle,
        offset: int,
        into: memoryview,
        about: bytes,
        since: float = 0.0,
        once: bool = False,
        came: Callable[[], None] | None = None,
    ) -> asyncio.Future[tuple[int, Attributes]]:
        """Fill `into` from `offset` of the file at the path `about`, which `handle` is open for.

        The count (short at the end of the file), and the attributes after the last byte. `since`: when the caller began, in
        the loop's time. Where the server refuses FSTAT and the path has changed since the OPEN, an older handle will not do.
        `once`, `came`: see `api.RemoteFile`. Raises LinkLost when it is to be asked again, the handle perhaps opened anew.
        """
        future, now = self._loop.create_future(), self._loop.time()
        batch = Batch(future, handle, offset, into, now, about, since, once, came)
        if not self.alive or not handle.open:
            batch.future.set_exception(LinkLost("the connection has ended"))
            return batch.future
        self.in_flight += len(into)
        self._handles.begin(handle)
        self._ask_parts(batch, batch.split(self._read_size))
        return batch.future

    def _ask_parts(self, batch: Batch, parts: list[tuple[int, int]]) -> None:
        packets = []
        batch.missing = len(parts) + 1
        for at, length in parts:
            number = self._next_id()
            batch.parts[number] = at, length
            self._decoder.expect(number, PacketType.DATA, batch, batch.into[at : at + length])
            whole = length + -length % self._page
            packets.append(wire.read(number, batch.handle.text, batch.offset + at, whole))
        number = self._next_id()
        self._decoder.expect(number, PacketType.ATTRS, batch)
        if batch.handle.before is None:
            packets.append(wire.request(PacketType.FSTAT, number, batch.handle.text))
        else:
            packets.append(wire.request(PacketType.STAT, number, batch.about))
        self.requests += len(packets)
        self._await(batch)
        self._send_out(b"".join(packets))

    async def _extended(self, name: bytes, path: bytes | None, parse: Callable[[bytes], T]) -> T:
        number = self._next_id()
        packet = wire.extended(number, name, path)
        answer = await self._put(PacketType.EXTENDED_REPLY, number, packet, path or name)
        try:
            return parse(answer)
        except ProtocolViolation as violation:
            raise self.violated(str(violation)) from None

    def _one_name(self, entries: list[DirEntry] | Status) -> bytes:
        if isinstance(entries, Status) or len(entries) != 1 or b"\0" in entries[0].name:
            raise self.violated("one path was due")
        return entries[0].name

    def _finish(self, batch: Batch) -> None:
        """All answers of a batch are there: finish it, or ask for missing bytes."""
        self._waiting.pop(batch, None)
        self._latest = max(self._latest, batch.sent)
        if batch.short and not batch.failed:
            # A short answer in the middle is allowed [6.4]; the missing bytes are asked for once more.
            again, batch.short = batch.short, []
            batch.sent = self._loop.time()
            self._ask_parts(batch, again)
            return
        self.in_flight -= len(batch.into)
        outcome = batch.outcome()
        self._handles.end(batch.handle)
        if isinstance(outcome, FstatRefused):
            self.refused.add(PacketType.FSTAT)
            log.info("the server refuses FSTAT (%s); STAT of the path takes its place", outcome)
        if isinstance(outcome, LinkLost):
            self.close_handle(batch.handle)
        if batch.future.done():
            return
        if isinstance(outcome, tuple):
            batch.future.set_result(outcome)
        else:
            batch.future.set_exception(outcome)

    def _end(self) -> None:
        self.in_flight = 0
        self._handles.fail(LinkLost(str(self.ended)))
        super()._end()
        self._lost(self)
