"""Reads files from end to end, each in one version: waits until it is settled, and starts over if it changes.

What `pull`, `prefetch` and `cat` share. On the event loop's thread.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from vfs.base.each import each
from vfs.base.errors import BeingWritten, StaleVersion
from vfs.fetch.fetcher import Fetcher
from vfs.files.node import Node
from vfs.files.reader import Piece, Reader, open_reader
from vfs.files.tree import Tree

T = TypeVar("T")

ATTEMPTS = 5
"""How often a file that changes while it is read is begun anew."""
CHUNK = 4 << 20
"""Bytes read at a time."""
SMALL = 1 << 20
SMALL_AT_ONCE, LARGE_AT_ONCE = 128, 3
"""The most files of up to `SMALL` bytes that are read concurrently, and the most larger ones, of which each fills the link."""


async def each_file(
    files: Iterable[T], size: Callable[[T], int], work: Callable[[T], Awaitable[None]]
) -> None:
    """Work on files, the smallest first and the large ones beside them, so that no event file waits for a checkpoint.

    `size` gives the bytes of a file.

    The first failure ends the others, and is raised when they have ended.
    """
    small: list[T] = []
    large: list[T] = []
    for file in sorted(files, key=size):
        (small if size(file) <= SMALL else large).append(file)
    groups = ((small, SMALL_AT_ONCE), (large, LARGE_AT_ONCE))
    await each(groups, lambda group: each(group[0], work, group[1]), len(groups))


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
