"""Keeps each listing in the cache, and shows it again while the server cannot be asked.

Long listings are written and read in slices.
"""

from __future__ import annotations

from vfs.base.slices import slices
from vfs.cache.blocks import BlockCache
from vfs.files.namespace import Namespace
from vfs.files.node import LONG_AGO, NEVER, UNKNOWN, Node
from vfs.files.records import KnownEntry, dump_listing, listing_key, load_listing


class LastKnown:
    """The records of one tree's listings; `identity` names the tree in the cache."""

    def __init__(self, names: Namespace, cache: BlockCache, identity: str) -> None:
        self._names = names
        self._cache = cache
        self._identity = identity

    def _key(self, directory: Node) -> str:
        return listing_key(self._identity, directory.relative)

    async def remember(self, directory: Node) -> None:
        """Keep a directory's listing if it has changed since it was kept."""
        if not directory.changed:
            return
        directory.changed = False
        parts = [
            dump_listing(
                KnownEntry(child.name, child.attributes, child.follow, child.target) for child in some
            )
            async for some in slices(list(directory.children.values()))
        ]
        if not directory.stale:
            self._cache.disk.set_record(self._key(directory), b"\n".join(parts) or dump_listing(()))

    async def recall(self, directory: Node) -> bool:
        """Enter the kept listing of a directory into the namespace. False: there is none."""
        record = await self._cache.get_record(self._key(directory))
        if record is None:
            return False
        entries: list[KnownEntry] = []
        async for lines in slices(record.split(b"\n"), 1):
            some = load_listing(lines[0])
            if some is None:
                return False
            entries += some
        changed = directory.changed
        async for batch in slices(entries):
            for entry in batch:
                if entry.name not in directory.children:
                    real = UNKNOWN if entry.follow else None
                    self._names.make(directory, entry.name, entry.attributes, NEVER, entry.target, real)
        directory.changed = changed
        directory.listed = max(directory.listed, LONG_AGO)
        directory.checked = max(directory.checked, LONG_AGO)
        return True
