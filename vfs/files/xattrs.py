"""The extended attributes of files: where the bytes are, whether they are pinned, whether the file is complete."""

from __future__ import annotations

import asyncio

from vfs import formats
from vfs.fetch.fetcher import Fetcher
from vfs.files.node import Node
from vfs.files.reader import joined, open_reader
from vfs.files.tree import Tree

STATE = b"user.artisync.state"
CACHED_BYTES = b"user.artisync.cached_bytes"
PINNED = b"user.artisync.pinned"
COMPLETE = b"user.artisync.complete"
NAMES = (STATE, CACHED_BYTES, PINNED, COMPLETE)


async def value(tree: Tree, fetcher: Fetcher, node: Node, name: bytes) -> bytes:
    """The value of one of `NAMES` for a file. Sends requests only where `complete` needs bytes."""
    if name == COMPLETE:
        return await _complete(tree, fetcher, node)
    if name == PINNED:
        return b"yes" if await tree.lineages.pinned(node) else b"no"
    cached = await cached_bytes(tree, node)
    if name == CACHED_BYTES:
        return b"%d" % cached
    if cached and (node.stale or (not tree.names.fresh(node) and tree.requests.silent())):
        return b"stale"
    if cached >= node.version.size:
        return b"cached"
    return b"partial" if cached else b"remote"


async def cached_bytes(tree: Tree, node: Node) -> int:
    """Bytes of a file that are in the cache; sends no request."""
    content = await tree.lineages.known(node)
    return tree.cache.cached_bytes(content.lineage) if content is not None else 0


async def _complete(tree: Tree, fetcher: Fetcher, node: Node) -> bytes:
    verdict = formats.verdict_for(node.name, node.version.size)
    if verdict.wanted is None:
        return _WORDS[verdict.complete]
    reader = await open_reader(tree, fetcher, node)
    content = reader.content
    try:
        version = content.version
        if content.judged is None or content.judged[0] != version:
            verdict = formats.verdict_for(node.name, version.size)
            while (wanted := verdict.wanted) is not None:
                verdict.tell(joined(await reader.read(wanted.start, len(wanted))))
                await asyncio.sleep(0)  # bytes in memory come without waiting, and the loop has other work
            content.judged = version, verdict.complete
        return _WORDS[content.judged[1]]
    finally:
        reader.close()


_WORDS = {True: b"yes", False: b"no", None: b"unknown"}
