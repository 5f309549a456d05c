"""Reads files from end to end, each in one version: waits until it is settled, and starts over if it changes.

What `pull`, `prefetch` and `cat` share. On the event loop's thread.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from vfs.base.errors import BeingWritten, StaleVersion
from vfs.fetch.fetcher import Fetcher
from vfs.files.node import Node
from vfs.files.reader import Piece, Reader, open_reader
from vfs.files.tree import Tree

ATTEMPTS = 5
"""How often a file that changes while it is read is begun anew."""
CHUNK = 4 << 20
"""Bytes read at a time."""
SMALL = 1 << 20
BEGUN = 256
"""Files that a command begins at a time: more than `Lanes` lets through, and each takes some kilobytes of memory."""


class Lanes:
    """Concurrency limits: many files of up to 1 MiB at a time, and few others, one of which fills the link."""

    def __init__(self) -> None:
        self._small, self._large = asyncio.Semaphore(128), asyncio.Semaphore(3)

    def of(self, size: int) -> asyncio.Semaphore:
        """The limit for a file of `size` bytes: `async with lanes.of(size):`."""
        return self._small if size <= SMALL else self._large


async def with_reader(
    tree: Tree, fetcher: Fetcher, node: Node, patience: float, use: Callable[[Reader], Awaitable[None]]
) -> None:
    """Call `use` with a reader of the file's present version; once more when that version goes away meanwhile.

    `patience`: seconds to wait for a file that is being written to come to rest. Raises BeingWritten when it does
    not, StaleVersion when it changes again and again; else what `use`, the remote and the tree raise.
    """
    path = posixpath.relpath(node.path, tree.root.path)
    for attempt in range(ATTEMPTS):
        try:
            current = node if attempt == 0 else await tree.find(path)
            async with settled_reader(tree, fetcher, current, patience) as reader:
                await use(reader)
        except BeingWritten:
            raise
        except StaleVersion:
            continue
        return
    raise StaleVersion(f"{path!r} keeps changing")


@asynccontextmanager
async def settled_reader(tree: Tree, fetcher: Fetcher, node: Node, patience: float) -> AsyncIterator[Reader]:
    """A reader of a version that is settled, or of a file that is only appended to. Raises BeingWritten, StaleVersion."""
    if not node.settled:
        try:
            async with asyncio.timeout(patience):
                await tree.versions.settle_name(node, small=True)
        except TimeoutError as error:
            raise BeingWritten(f"{node.path!r} is being written") from error
    reader = await open_reader(tree, fetcher, node)
    try:
        await tree.versions.recheck(node)  # no byte in doubt is copied
        yield reader
    finally:
        reader.close()


async def chunks(reader: Reader, start: int, end: int) -> AsyncIterator[list[Piece]]:
    """The bytes [start, end) of the reader's version, in order, some MiB at a time. Raises as `Reader.read`."""
    while start < end:
        length = min(CHUNK, end - start)
        pieces = reader.read_now(start, length)
        if pieces is None:
            pieces = await reader.read(start, length)
        count = sum(b - a for _, a, b in pieces)
        if not count:
            raise StaleVersion(f"{reader.node.path!r} became shorter")
        start += count
        yield pieces
