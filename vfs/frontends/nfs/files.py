"""What NFS needs beyond the files service: handles that clients never give back, attributes that show whether a listing has
changed, and reads without an open. Used on the event loop's thread.

Raises as the service does.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping

from cachetools import LRUCache

from vfs.base.errors import AccessDenied, ListingTooLong, StaleVersion
from vfs.base.loop_time import loop_time
from vfs.files.node import NEVER, Kind, Node
from vfs.files.reader import Piece
from vfs.files.service import Files
from vfs.frontends.nfs.readers import Readers

MOST_USED = 20_000
"""Nodes used last that the tree must not forget: no client says when it is done with a handle."""


class NfsFiles:
    """Over the files of a server."""

    def __init__(self, files: Files) -> None:
        self.service = files
        self._tree = files.tree
        self._readers = Readers(files)
        self._nodes: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
        self._used: LRUCache[int, Node] = LRUCache(MOST_USED)

    @property
    def open_files(self) -> int:
        """Files that were read lately."""
        return len(self._readers)

    def number(self, node: Node) -> int:
        """The number for `node`; valid while the node is in the tree or in use."""
        self._nodes[node.id] = node
        return node.id

    def node(self, number: int) -> Node | None:
        """The node of a number that was given, unless it is gone."""
        node = self._nodes.get(number)
        if node is not None:
            self._used[number] = node
        return node

    def change(self, node: Node) -> int:
        """A number that changes with a file's size or a directory's names: until then, clients keep what they have cached."""
        if node.kind is not Kind.DIRECTORY:
            return node.attributes.size
        if self._watched(node):
            return node.changes
        return int(loop_time() * 1000)  # never the same: the listing is not watched

    @staticmethod
    def _watched(directory: Node) -> bool:
        """Whether the directory is listed again to see whether it has changed."""
        return directory.listed > NEVER and not directory.large and not directory.slow

    def fresh(self, node: Node) -> bool:
        """Whether the attributes may be given out without `refresh`."""
        if not self._tree.names.fresh(node):
            return False
        return node.kind is not Kind.DIRECTORY or not self._watched(node) or self._tree.names.listed(node)

    async def refresh(self, node: Node) -> None:
        """Ask for the attributes, and for the names of a directory that was listed, where they are past the TTL.

        Raises StaleVersion for a node that its name does not stand for any more, also while it is read: a client that
        opens a file asks for no more than this.
        """
        await self.service.attributes(node)
        if node.stale:
            raise StaleVersion(f"{node.path!r} was replaced")
        if node.kind is Kind.DIRECTORY and self._watched(node):
            with contextlib.suppress(AccessDenied, ListingTooLong):  # it may be entered all the same
                await self._tree.refresh_listing(node)

    async def listing(self, directory: Node) -> Mapping[bytes, Node]:
        """The children of a directory: live, to be copied by who keeps it."""
        return self.service.listing_now(directory) or await self.service.listing(directory)

    async def read(self, node: Node, offset: int, count: int) -> list[Piece]:
        """The bytes from `offset` on, fewer than `count` at the end of the file only."""
        async with self._readers.of(node) as reader:
            return await self.service.read_latest(reader, offset, count)

    def close(self) -> None:
        """Close the readers."""
        self._readers.close()
