"""Loads a file's blocks from the disk to memory, on demand or ahead.

Owned by the event loop's thread; there are no locks. Nothing here asks the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from vfs.cache.block import BLOCK, Block, split
from vfs.cache.blocks import BlockCache
from vfs.fetch.content import Content


class DiskLoads:
    """`lacking` is called with a range [start, end) of a content that was to be loaded ahead, and was not on the disk."""

    def __init__(self, cache: BlockCache, lacking: Callable[[Content, int, int], None]) -> None:
        self._cache = cache
        self._lacking = lacking

    async def load(self, content: Content, start: int, end: int) -> None:
        """Load the parts of [start, end) that the disk has. The server is not asked."""
        lacking = []
        for index, a, b in split(start, end):
            block = self._cache.get(content.lineage, index)
            if (block is None or not block.covers(a, b)) and index in content.on_disk:
                lacking.append(index)
        if lacking:
            await self._load(content, lacking)

    def load_soon(self, content: Content, start: int, end: int, then: Callable[[], None]) -> bool:
        """As `load`, without a task, if the disk has a part of each block that memory lacks. `then` is called when all of them were
        read, perhaps at once."""
        lineage = content.lineage
        lacking = []
        for index, a, b in split(start, end):
            block = self._cache.get(lineage, index)
            if block is None:
                if index not in content.on_disk or not self._cache.disk.kept(lineage, index):
                    return False
                lacking.append(index)
            elif not block.covers(a, b):
                return False
        if lacking:
            self._start_load(content, lacking, then)
        return bool(lacking)

    def load_ahead(self, content: Content, start: int, end: int) -> bool:
        """Begin to load the parts of [start, end) that memory lacks; whether the disk has all of them."""
        if content.stale:
            return False
        for index, a, b in split(start, min(end, content.version.size)):
            block = self._cache.get(content.lineage, index)
            if block is None and index in content.on_disk:
                self.load_block_ahead(content, index, a, b)
            elif block is None or not block.covers(a, b):
                return False
        return True

    def note_memory(self, content: Content) -> None:
        """Note the ends of the blocks in memory, of a lineage that was found again."""
        for index in content.held:
            block = self._cache.get(content.lineage, index)
            if block is not None:
                content.ends.note(block, index * BLOCK)

    async def note_ends(self, content: Content) -> None:
        """Note the ends of the blocks on disk. A block that was evicted there, and never given out, is no end."""
        ends, kept = content.ends, content.on_disk
        while kept and (ends.first is None or min(kept) < ends.first.start // BLOCK):
            await self._load(content, [min(kept)])
        while kept and (not ends.last or max(kept) > (ends.last[-1].end - 1) // BLOCK):
            await self._load(content, [max(kept)])

    async def _load(self, content: Content, indexes: list[int]) -> None:
        loaded = asyncio.get_running_loop().create_future()
        self._start_load(content, indexes, lambda: None if loaded.done() else loaded.set_result(None))
        await loaded

    def _start_load(self, content: Content, indexes: list[int], then: Callable[[], None]) -> None:
        """Load the parts of blocks that the disk has; call `then` when all were read."""
        left = len(indexes)

        def loaded(index: int, block: Block | None) -> None:
            nonlocal left
            self._took(content, index, block)
            left -= 1
            if not left:
                then()

        for index in indexes:
            self._cache.load(content.lineage, index, partial(loaded, index))

    def _took(self, content: Content, index: int, block: Block | None) -> None:
        """Note the outcome of loading a block."""
        capacity = max(0, min(BLOCK, content.version.size - index * BLOCK))
        if block is not None:
            block.clip(capacity)  # bytes written beyond the recorded version belong to no version
        if block is None or not block.extents:
            content.on_disk.discard(index)
            return
        if block.capacity < capacity:
            block = block.grown(capacity)
            self._cache.put(content.lineage, index, block, persist=False)
        content.ends.note(block, index * BLOCK)

    def load_block_ahead(self, content: Content, index: int, a: int, b: int) -> None:
        """Load a block of which [a, b), in bytes within it, may be needed."""

        def loaded() -> None:
            block = self._cache.get(content.lineage, index)
            if block is None or not block.covers(a, b):
                self._lacking(content, index * BLOCK + a, index * BLOCK + b)

        self._start_load(content, [index], loaded)
