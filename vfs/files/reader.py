"""An open file: its pinned version, its access pattern; offsets to blocks to bytes.

All reading goes through here, from the mount and from the commands alike, so that "never mixed" is written once.
Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from vfs.base.errors import NoSuchPath, NotAFile, StaleVersion
from vfs.cache.block import BLOCK, Block
from vfs.fetch.content import Content, Moved
from vfs.fetch.fetcher import SINGLE_READ, Fetcher
from vfs.fetch.readahead import FROM_DISK, GROWTH, STEPS, USUAL, Readahead, kernel_readahead
from vfs.files.node import Node
from vfs.files.tree import Tree
from vfs.formats import Advisor, Range, advisor_for, mapped

LEFT_SECONDS = 5.0
"""Seconds for which the place where a program left a file is remembered."""
BEHIND = 4 * BLOCK
"""Bytes behind a sequential reader that stay in memory: the kernel asks out of order by less than that."""

Piece = tuple[Block, int, int]
"""A block and the part of it that is meant: from, to (bytes within the block)."""


def joined(pieces: Iterable[Piece]) -> bytes:
    """A copy of the bytes of all pieces."""
    return b"".join(block.view(a, b) for block, a, b in pieces)


class Reader:
    """One open handle of one file. Make it with `open_reader`, end it with `close`."""

    def __init__(self, tree: Tree, fetcher: Fetcher, node: Node, content: Content) -> None:
        self.tree = tree
        self.fetcher = fetcher
        self.node = node
        self.content = content
        self._pattern = Readahead(eager=not mapped(node.name), bound=self._likely_end())
        self._advisor: Advisor | None = advisor_for(node.name, content.version.size)
        self._sparse = False
        self._passed = 0
        """The run of reads has passed the blocks before this one, and memory has let them go."""
        self._going_on = False
        """The advisor continues in a later step of the loop."""
        self._on_disk = len(content.on_disk) * BLOCK >= content.version.size
        """Whether the disk seems to have all blocks, at least in part."""
        fetcher.end_sparing(content, read=True)
        content.readers += 1
        fetcher.readers += 1

    @property
    def size(self) -> int:
        """Bytes of the version that the reader gives; it only grows."""
        return self.content.version.size

    @property
    def keep_pages(self) -> bool:
        """Whether the kernel may go on using the pages that it has of this file."""
        return not self.content.doubts

    @property
    def ahead_wanted(self) -> int:
        """Bytes that the kernel should ask for ahead of a program: a block of a file that the disk has, else what comes
        within some milliseconds."""
        if self._on_disk:
            return BLOCK
        return kernel_readahead(self.fetcher.remote.soon) if self._pattern.eager else USUAL

    def asked_ahead(self, size: int) -> None:
        """The kernel will ask for `size` bytes ahead."""
        self._pattern.kernel = size

    def read_now(self, start: int, length: int) -> list[Piece] | None:
        """The pieces of [start, start + length), clipped at the end of the file, if no waiting is needed."""
        content = self.content
        if content.stale or content.doubts:
            return None
        end = min(start + length, content.version.size)
        pieces = self.fetcher.ready(content, start, end)
        if pieces is not None and start < end:
            self.fetcher.used += end - start
            self._note(start, end)
        return pieces

    def read_soon(self, start: int, length: int, then: Callable[[list[Piece] | None], None]) -> bool:
        """As `read_now`, if what memory lacks is known to be on the disk, or is on its way from the server: `then` gets the pieces
        once they are in memory, or None when `read` must be awaited after all."""
        content = self.content
        if content.stale or content.doubts or not self.tree.versions.at_once(content):
            return False
        end = min(start + length, content.version.size)

        def loaded() -> None:
            pieces = None
            # the kernel fills a short answer with zeros up to the size that it was told
            short = end < min(start + length, content.told, content.version.size)
            if not (content.stale or content.doubts or short):
                pieces = self.fetcher.ready(content, start, end)
            if pieces is not None:
                self.fetcher.used += end - start
                self._advise(start, end)
                self.tree.refresh_soon(self.node)
            then(pieces)

        fetcher = self.fetcher
        if not (
            fetcher.disk.load_soon(content, start, end, loaded)
            or fetcher.come_soon(content, start, end, loaded)
        ):
            return False
        self._note(start, end)
        return True

    async def read(self, start: int, length: int, *, noted: bool = False) -> list[Piece]:
        """As `read_now`, fetching what is not in memory. `noted`: `read_soon` has begun it.

        Raises StaleVersion when the version is gone, RemoteError and Unreachable as the remote does.
        """
        content, versions = self.content, self.tree.versions
        lenient = False
        while True:
            if content.stale:
                raise StaleVersion(f"{content.path!r} was replaced")
            if not versions.at_once(content):
                await versions.settle_name(self.node, versions.patience)
            heard = await versions.rechecked(self.node)
            end = min(start + length, content.version.size)
            if start >= end:
                return []
            if not noted:
                self._note(start, end)
            noted = False
            await self.fetcher.disk.load(content, start, end)
            pieces = self.fetcher.ready(content, start, end)
            try:
                if pieces is None and not heard:
                    await versions.recheck(self.node)
                if pieces is None:
                    await self.fetcher.need(content, *self._demand(start, end), lenient=lenient)
            except Moved as moved:
                await versions.moved(self.node, moved.attributes, moved.at)
                self.fetcher.take_whole(content, moved)
                lenient = True
                continue
            except (NoSuchPath, NotAFile) as error:
                self.tree.names.remove(self.node)
                raise StaleVersion(f"{content.path!r} is gone") from error
            if end < min(start + length, content.told, content.version.size):
                continue  # the kernel fills a short answer with zeros up to the size that it was told
            pieces = self.fetcher.ready(content, start, end)
            if pieces is not None and not content.stale:
                self.fetcher.used += end - start
                self._advise(start, end)
                self.tree.refresh_soon(self.node)
                return pieces

    def close(self) -> None:
        """Cancel the readahead of this handle. No read may follow."""
        self._leave(self._pattern.left)
        self.fetcher.cancel(self)
        self.fetcher.cancel((self, "hint"))
        self._advisor = None
        self.content.readers -= 1
        self.fetcher.readers -= 1

    def _demand(self, start: int, end: int) -> tuple[int, int]:
        content = self.content
        if not content.trusted and content.version.size <= SINGLE_READ:
            return 0, content.version.size
        if self._sparse:
            return start, end
        return self._pattern.demand(start, end, content.version.size, self.fetcher.remote.spare)

    def _note(self, start: int, end: int) -> None:
        """Follow the pattern, and ask ahead for what it and the file's format say."""
        content, pattern = self.content, self._pattern
        was, left = pattern.run_start, pattern.left
        pattern.touch(start, end)
        if pattern.run_start != was:
            self._leave(left)
            self.fetcher.cancel(self)
            self._passed = 0
        self._let_go(start)
        self._advise(start, end)
        growth = 1 if self._sparse else GROWTH
        if self._on_disk:
            most = min(FROM_DISK, self.fetcher.cache.memory_bytes // (2 * self.fetcher.readers))
            ahead = pattern.ahead(content.version.size, most, most, growth, unit=most // STEPS)
            if ahead is None or self.fetcher.disk.load_ahead(content, *ahead):
                return
            # it grew, or was evicted: the link says how much to fetch
            self._on_disk, pattern.frontier = False, ahead[0]
        remote = self.fetcher.remote
        window = remote.window
        # what came already and waits for a block before it is not in flight
        limit = window + window // self.fetcher.readers
        ahead = pattern.ahead(content.version.size, limit, remote.spare, growth, early=remote.early)
        if ahead is not None:
            self.fetcher.ahead(self, content, [ahead])

    def _leave(self, left: int | None) -> None:
        if left is not None:
            self.fetcher.left = left, asyncio.get_running_loop().time()

    def _likely_end(self) -> int:
        """Where a program left another file a moment ago; 0: nowhere."""
        if self.fetcher.left is None:
            return 0
        position, at = self.fetcher.left
        return position if asyncio.get_running_loop().time() - at < LEFT_SECONDS else 0

    def _let_go(self, start: int) -> None:
        """Let go of the blocks that a run of reads has passed: the kernel keeps their pages, and memory that is used again is in
        the processor's cache. The first block stays, since formats keep their headers there."""
        first = max(self._passed, self._pattern.run_start // BLOCK + 1)
        self._passed = max(first, (start - BEHIND) // BLOCK)
        for index in range(first, self._passed):
            self.fetcher.cache.passed(self.content.lineage, index)

    def _advise(self, start: int, end: int) -> None:
        if self._advisor is None:
            return
        self._advisor.budget.within(self.fetcher.remote.spare)
        wanted = self._advisor.advise(_Known(self), Range(start, end))
        if wanted:
            ranges = [(span.start, span.end) for span in wanted]
            self.fetcher.ahead((self, "hint"), self.content, ranges, hint=True)
        self._sparse = self._advisor.sparse
        if self._advisor.finished:
            self._advisor = None
        elif self._advisor.paused and not self._going_on:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on, start, end)

    def _go_on(self, start: int, end: int) -> None:
        self._going_on = False
        self._advise(start, end)


class _Known:
    """What an advisor may read: the bytes of the file that are in memory."""

    def __init__(self, reader: Reader) -> None:
        self.size = reader.size
        self._reader = reader

    def get(self, offset: int, length: int) -> bytes | None:
        end = min(offset + length, self.size)
        pieces = self._reader.fetcher.ready(self._reader.content, offset, end)
        return None if pieces is None else joined(pieces)


async def open_reader(tree: Tree, fetcher: Fetcher, node: Node) -> Reader:
    """Open a file node for reading.

    Raises StaleVersion when the node is not what its name stands for now; else as `Versions.open`.
    """
    if not tree.names.fresh(node):
        content = await tree.lineages.known(node)
        if content is not None and (content.held or content.file is not None):
            await tree.refresh(node)  # else the server is asked by opening it there
    if node.stale:
        await tree.versions.settle_name(node, tree.versions.patience)
        raise StaleVersion(f"{node.path!r} was replaced")
    return Reader(tree, fetcher, node, await tree.versions.open(node))
