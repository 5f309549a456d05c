"""Everything between a server in memory and a file's bytes, on virtual time: a mount without a kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.lab.memory_remote import MemoryRemote
from tests.lab.memory_tree import MemoryTree
from tests.lab.virtual_time import run_virtual
from vfs.base.errors import StaleVersion
from vfs.base.memory import BLOCKS
from vfs.cache.blocks import BlockCache
from vfs.cache.disk import DiskCache
from vfs.fetch.fetcher import Fetcher
from vfs.files.node import Node
from vfs.files.reader import Piece, Reader, open_reader
from vfs.files.service import Files
from vfs.files.tree import Tree

ROOT = b"/r"
TTL = 2.0
TIMEOUT = 30.0
"""Seconds that one request may take."""
OLD = 3600
"""Seconds ago that `MemoryStack.old` files were written."""
BASE = 1_700_000_000
"""The server's Unix time, less the loop's."""


class MemoryStack:
    """`files` is the server's tree, `remote` the way there, `tree` what is known of it, `service` what a frontend says.

    `skew`: seconds by which the server's clock is ahead. `place`: where a cache on disk is; None: in memory only.
    `memory`: bytes of blocks that are kept in memory.
    """

    def __init__(
        self,
        *,
        latency: float = 0.0,
        between: float = 0.0,
        skew: float = 0.0,
        place: Path | None = None,
        memory: int = BLOCKS,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.files = MemoryTree(lambda: BASE + loop.time() + skew)
        self.files.mkdir(ROOT)
        self._options = {"latency": latency, "between": between}
        self._place, self._memory = place, memory
        self._start()

    def _start(self) -> None:
        self.remote = MemoryRemote(self.files, **self._options)
        disk = DiskCache.open(self._place, 1 << 30) if self._place is not None else None
        self.cache = BlockCache(disk, self._memory)
        self.fetcher = Fetcher(self.remote, self.cache)
        self.tree = Tree(self.remote, self.fetcher, self.cache, ROOT, "test", TTL)
        self.service = Files(self.tree, self.fetcher, TIMEOUT)
        self.list_ahead = self.service.list_ahead

    async def restart(self, *, offline: bool = False) -> None:
        """End the stack and begin another on the same cache, as a remount does."""
        await self.aclose()
        self._start()
        if offline:
            self.remote.go_offline()
            assert await self.tree.recall_root()

    def evict(self) -> None:
        """Have all blocks that are in memory make way, as others would have them do."""
        while self.cache._memory:
            self.cache._memory.popitem()

    def old(self, path: bytes, data: bytes) -> None:
        """Have a file on the server that nobody has written to for long."""
        self.files.write(path, data)
        self.files.utime(path, int(self.files.clock()) - OLD)

    async def node(self, path: bytes) -> Node:
        """What a path below the root stands for now."""
        return await self.tree.find(path)

    async def open(self, path: bytes) -> Reader:
        """Open a file as the kernel does: after an answer "stale", the name is looked up again once."""
        for last in (False, True):
            try:
                return await open_reader(self.tree, self.fetcher, await self.node(path))
            except StaleVersion:
                if last:
                    raise
        raise AssertionError

    async def read(self, path: bytes, start: int = 0, length: int = 1 << 30) -> bytes:
        """The bytes of a file, opened for this read alone."""
        reader = await self.open(path)
        try:
            return await read(reader, start, length)
        finally:
            reader.close()

    async def aclose(self) -> None:
        """End it, top to bottom."""
        await self.service.aclose()
        await self.tree.aclose()
        await self.fetcher.aclose()
        await self.remote.aclose()
        await self.cache.close()


async def read(reader: Reader, start: int = 0, length: int = 1 << 30) -> bytes:
    """What a program gets from one read, by the ways that a frontend tries in turn."""
    pieces = reader.read_now(start, length)
    if pieces is None:
        soon: asyncio.Future[list[Piece] | None] = asyncio.get_running_loop().create_future()
        if reader.read_soon(start, length, lambda found: soon.done() or soon.set_result(found)):
            pieces = await soon
    if pieces is None:
        pieces = await reader.read(start, length)
    return b"".join(bytes(block.view(a, b)) for block, a, b in pieces)


def tagged(tag: bytes, size: int) -> bytes:
    """`size` bytes of which every eight name the version that they belong to."""
    return (tag.ljust(8, b".") * (size // 8 + 1))[:size]


def play(story: Callable[[MemoryStack], Awaitable[None]], **options: object) -> None:
    """Run a story on a stack of its own; `options` are those of `MemoryStack`."""

    async def main() -> None:
        stack = MemoryStack(**options)  # type: ignore[arg-type]
        try:
            await story(stack)
        finally:
            await stack.aclose()

    run_virtual(main())
