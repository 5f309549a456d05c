"""A file that is open by path, on each connection that it is read over.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from operator import attrgetter

from vfs.base.errors import LinkLost, ServerFailure
from vfs.remote.api import Attributes
from vfs.remote.sftp import substitutes
from vfs.remote.sftp.batch import only_file
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.handles import Handle
from vfs.remote.sftp.pool import Pool

QUICK = 128 << 10
"""Reads of up to this many bytes that are not bulk, and all other requests, have a connection to themselves."""
LARGE = 2 << 20
"""A longer file is opened on as many connections as it can keep busy, before it is read."""
LOAD = attrgetter("in_flight")
PATIENCE = 3
"""If more than PATIENCE × `share.size` bytes are in flight where a file is open, it is first opened on an idler connection,
which takes a round trip."""


class PoolFile:
    """`api.RemoteFile`: a path, with a handle on each connection that was used for it."""

    def __init__(self, pool: Pool, path: bytes) -> None:
        self.path = path
        self.attributes = Attributes(0)
        self._pool = pool
        self._handles: dict[Connection, asyncio.Future[Handle]] = {}
        self._reading = 0
        self._closed = False
        self._wary = False
        """Whether a connection ended at an OPEN of it: that of a FIFO blocks the server's process."""

    async def open_on(self, connection: Connection) -> None:
        """Open it on a connection; STAT goes out with OPEN, so that its attributes cost no round trip of their own.

        Raises NotAFile when it is no regular file; else as the server says.
        """
        opened = self._handle(connection)
        self.attributes = await substitutes.stat(connection, self.path)
        only_file(self.attributes, self.path)
        await opened
        if self.attributes.size > LARGE and not self._closed:
            useful = math.ceil(self.attributes.size / self._pool.share.size)
            for wide in sorted(self._pool.wide, key=LOAD)[:useful]:
                self._handle(wide)

    def _handle(self, connection: Connection) -> asyncio.Future[Handle]:
        handle = self._handles.get(connection)
        if handle is None or (handle.done() and not _is_open(handle)):
            self._handles = {one: there for one, there in self._handles.items() if one.alive}
            asked = asyncio.ensure_future(self._look_first(connection)) if self._wary else None
            handle = self._handles[connection] = asked or connection.open(self.path)
            handle.add_done_callback(self._seen)
        return handle

    async def _look_first(self, connection: Connection) -> Handle:
        only_file(await substitutes.stat(connection, self.path), self.path)
        return await connection.open(self.path)

    def _seen(self, handle: asyncio.Future[Handle]) -> None:
        if not handle.cancelled() and isinstance(handle.exception(), LinkLost):
            self._wary = True

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
        since = asyncio.get_running_loop().time()
        try:
            return await self._pool.ask(
                lambda connection: self._read(connection, offset, into, since, once, came),
                partial(self._wide, len(into)) if bulk or len(into) > QUICK else self._narrow,
            )
        finally:
            self._reading -= 1
            if self._closed and not self._reading:
                self._close_handles()

    def _narrow(self, best: Connection) -> Connection:
        """The connection for a small read: `best`, or where the file is open already."""
        return self._open_on(best, self._pool.alive) or best

    def _wide(self, size: int, best: Connection) -> Connection:
        """The connection for a large read: `best` among the wide ones, or where the file is open already.

        No more of them than what is in flight is worth: over a slow link reads come one after the other, not all at once.
        """
        share = self._pool.share.size
        wide = self._pool.wide[: math.ceil((self._pool.in_flight + size) / share)]
        if not wide:
            return best
        patience = PATIENCE * share
        least = min(wide, key=LOAD)
        found = self._open_on(least, wide)
        if found is not None and (found is least or found.in_flight < patience):
            return found
        elsewhere = self._ready(self._pool.alive)
        # not to lose the round trip that the opening takes
        if found is None and elsewhere and elsewhere[0].in_flight < patience:
            return elsewhere[0]
        return least

    def _open_on(self, best: Connection, among: list[Connection]) -> Connection | None:
        """`best` if the file is open there, else the idlest connection where it is. Opens it on `best` if need be."""
        if self._handle(best).done():
            return best
        ready = self._ready(among)
        return min(ready, key=LOAD, default=None)

    def _ready(self, connections: list[Connection]) -> list[Connection]:
        return [one for one in connections if one in self._handles and _is_open(self._handles[one])]

    async def _read(
        self,
        connection: Connection,
        offset: int,
        into: memoryview,
        since: float,
        once: bool,
        came: Callable[[], None] | None,
    ) -> tuple[int, Attributes]:
        path, now = self._pool.link.path, asyncio.get_running_loop().time
        handle = self._handle(connection)
        if not handle.done():
            connection.in_flight += len(into)  # the next read shall find another connection idler
            try:
                await asyncio.shield(handle)
            except ServerFailure:  # some refuse to open a directory
                only_file(await substitutes.stat(connection, self.path), self.path)
                raise
            finally:
                connection.in_flight -= len(into)
        value = handle.result()
        sent = path.sent(len(into), now(), self._pool.in_flight, self._pool.arrived)
        count, attributes = await connection.read(value, offset, into, self.path, since, once, came)
        path.received(count, sent, now(), self._pool.arrived)
        return count, attributes

    def close(self) -> None:
        """See `api.RemoteFile`."""
        self._closed = True
        if not self._reading:
            self._close_handles()

    def _close_handles(self) -> None:
        handles, self._handles = self._handles, {}
        for connection, handle in handles.items():
            if handle.done():
                _close_handle(connection, handle)
            else:
                handle.add_done_callback(partial(_close_handle, connection))


def _is_open(handle: asyncio.Future[Handle]) -> bool:
    if not handle.done() or handle.cancelled() or handle.exception() is not None:
        return False
    return handle.result().open


def _close_handle(connection: Connection, handle: asyncio.Future[Handle]) -> None:
    if not handle.cancelled() and handle.exception() is None and connection.alive:
        connection.close_handle(handle.result())
