"""The extended attributes of files: where the bytes are, whether they are pinned, whether the file is whole."""

from __future__ import annotations

from vfs import formats
from vfs.fetch import Fetcher
from vfs.node import Node
from vfs.reader import open_reader
from vfs.tree import Tree

STATE = b"user.artisync.state"
CACHED_BYTES = b"user.artisync.cached_bytes"
PINNED = b"user.artisync.pinned"
COMPLETE = b"user.artisync.complete"
NAMES = (STATE, CACHED_BYTES, PINNED, COMPLETE)


async def value(tree: Tree, fetcher: Fetcher, node: Node, name: bytes) -> bytes:
    """The value of one of `NAMES` for a file. Asks the server only where `complete` needs bytes."""
    if name == COMPLETE:
        return await _complete(tree, fetcher, node)
    if name == PINNED:
        content = await tree.versions.known(node)
        return b"yes" if content is not None and tree.cache.pinned(content.lineage) else b"no"
    cached = await cached_bytes(tree, node)
    if name == CACHED_BYTES:
        return b"%d" % cached
    if cached and (node.stale or (not tree.fresh(node) and tree.silent())):
        return b"stale"
    if cached >= node.version.size:
        return b"cached"
    return b"partial" if cached else b"remote"


async def cached_bytes(tree: Tree, node: Node) -> int:
    """Bytes of a file that are in the cache; asks the server nothing."""
    content = await tree.versions.known(node)
    return tree.cache.cached_bytes(content.lineage) if content is not None else 0


async def _complete(tree: Tree, fetcher: Fetcher, node: Node) -> bytes:
    size = node.version.size
    if not formats.needed_for_complete(node.name, size):
        whole = formats.complete(node.name, formats.Nothing(size))
    else:
        reader = await open_reader(tree, fetcher, node)
        try:
            known = reader.known()
            while wanted := formats.needed_for_complete(node.name, known.size, known):
                for span in wanted:
                    await reader.read(span.start, len(span))
            whole = formats.complete(node.name, known)
        finally:
            reader.close()
    return {True: b"yes", False: b"no", None: b"unknown"}[whole]
