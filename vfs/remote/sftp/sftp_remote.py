"""`api.Remote` over a pool of SFTP connections.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from vfs.remote.api import Attributes, DirEntry
from vfs.remote.sftp import substitutes
from vfs.remote.sftp.listing import scandir
from vfs.remote.sftp.pool import Pool
from vfs.remote.sftp.pool_file import PoolFile
from vfs.remote.ssh.transport import Dialer

METERED_AHEAD = 256 << 10
"""Bytes ahead of a reader at most on a metered link."""


class SftpRemote(Pool):
    """Each request goes to the best connection, and is asked again over a lost one. `metered`: see `api.Remote`."""

    def __init__(self, dialer: Dialer, timeout: float, *, metered: bool = False) -> None:
        super().__init__(dialer, timeout)
        self.metered = metered
        self.hurry, self.hurried = self.reconnecting.hurry, self.reconnecting.hurried

    @property
    def window(self) -> int:
        return min(super().window, METERED_AHEAD) if self.metered else super().window

    @property
    def allowed(self) -> int:
        return min(self.window, self.link.path.allowed(asyncio.get_running_loop().time()))

    @property
    def piece(self) -> int:
        return self.link.path.piece

    @property
    def spare(self) -> int:
        spare = self.link.path.spare
        return min(spare, METERED_AHEAD) if self.metered else spare

    @property
    def early(self) -> int:
        return 0 if self.metered else self.link.path.early

    @property
    def soon(self) -> int:
        return 0 if self.metered else self.link.path.soon

    async def lstat(self, path: bytes) -> Attributes:
        attributes = await self.ask(lambda connection: substitutes.lstat(connection, path))
        self.link.saw_mtime(attributes.mtime)
        return attributes

    async def stat(self, path: bytes) -> Attributes:
        attributes = await self.ask(lambda connection: substitutes.stat(connection, path))
        self.link.saw_mtime(attributes.mtime)
        return attributes

    async def readlink(self, path: bytes) -> bytes:
        return await self.ask(lambda connection: connection.readlink(path))

    async def realpath(self, path: bytes) -> bytes:
        return await self.ask(lambda connection: substitutes.realpath(connection, path))

    async def scandir(self, path: bytes, wanted: Callable[[], bool] = lambda: True) -> list[DirEntry]:
        entries = await self.ask(lambda connection: scandir(connection, path, wanted))
        self.link.saw_mtime(max((entry.attributes.mtime for entry in entries), default=0))
        return entries

    async def statvfs(self, path: bytes) -> os.statvfs_result | None:
        return await self.ask(lambda connection: substitutes.statvfs(connection, path))

    async def open(self, path: bytes) -> PoolFile:
        file = PoolFile(self, path)
        try:
            await self.ask(file.open_on)
        except BaseException:
            file.close()
            raise
        return file
