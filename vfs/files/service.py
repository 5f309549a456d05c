"""The files of one server, as FUSE, NFS and fsspec serve them.

Methods that end in `_now` are for the hot paths: they answer without waiting, or return None where the server has to be asked;
then the method without `_now` asks. Failures are the classes of `vfs.base.errors`; `vfs.base.errnos` has an errno for each.
The methods have no deadline of their own: a frontend awaits them in a coroutine that it passes to `answer`.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from vfs.base import calls
from vfs.base.calls import Call
from vfs.base.errors import NoSuchPath, StaleVersion, Unsupported
from vfs.base.loop_time import loop_time
from vfs.fetch.fetcher import Fetcher
from vfs.files import xattrs
from vfs.files.ahead.fetch_ahead import FetchAhead
from vfs.files.ahead.list_ahead import ListAhead
from vfs.files.ahead.used import Used
from vfs.files.node import Kind, Node
from vfs.files.reader import Piece, Reader, open_reader
from vfs.files.shown import Shown, shown
from vfs.files.tree import Tree
from vfs.remote.api import LONGEST_NAME

T = TypeVar("T")

FS_SECONDS = 5.0
"""How long the server's figures for statfs are used."""
OFFLINE_SECONDS = 0.5
"""How long a client may keep attributes that are shown while the server cannot be asked; within the TTL in all."""
NO_STATS = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, LONGEST_NAME))
"""The answer to statfs where the server gives no figures."""


class Files:
    """`timeout`: seconds that one request may take. `uid`, `gid`: who owns everything that is shown.

    Offsets and sizes are bytes, durations seconds, names and paths bytes as the server has them.
    """

    def __init__(self, tree: Tree, fetcher: Fetcher, timeout: float) -> None:
        self.tree = tree
        self.fetcher = fetcher
        self.list_ahead = ListAhead(tree)
        self.fetch_ahead = FetchAhead(tree, fetcher)
        self._used = Used(tree)
        self.timeout = timeout
        self.uid, self.gid = os.getuid(), os.getgid()
        self._fs: tuple[float, os.statvfs_result] | None = None

    async def answer(self, call: Call, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which serves the call, and log how it ended. Raises as `work` does, TimeoutError after `timeout`."""
        return await calls.answer(call, self.timeout, work)

    # --- nodes ----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Node:
        """The root's node, always the same and always held."""
        return self.tree.root

    def node(self, number: int) -> Node:
        """The node whose `id` this is, held by a frontend. Ids are never used again. Raises StaleVersion."""
        return self.tree.names.held(number)

    def hold(self, node: Node) -> None:
        """Keep `node` findable by its id until `forget` was called as often."""
        self.tree.names.hold(node)

    def forget(self, number: int, count: int) -> None:
        """Take back `count` calls of `hold`. A number that is not held is passed over."""
        self.tree.names.forget(number, count)

    def shown(self, node: Node) -> Shown:
        """The node's attributes, however old, for a client that keeps them."""
        node.resized = False
        if node.content is not None:
            node.content.told = node.version.size
        return self.glimpse(node)

    def glimpse(self, node: Node) -> Shown:
        """As `shown`, for a client that does not keep them."""
        return shown(node, self.uid, self.gid)

    def valid_for(self, node: Node) -> float:
        """Seconds for which a client may keep the node's attributes, and that its name stands for it."""
        if self.tree.shown_offline(node):
            return min(OFFLINE_SECONDS, self.tree.names.ttl)
        return self.tree.names.valid_for(node)

    def absent_for(self, directory: Node) -> float:
        """Seconds for which a client may keep that a name is not in the directory."""
        return self.tree.names.absent_for(directory)

    # --- names and attributes ---------------------------------------------------------------------------------------

    def lookup_now(self, directory: Node, name: bytes) -> Node | None:
        """What a name in a directory stands for, symlinks not followed. Raises NoSuchPath, NameTooLong."""
        self._used.note(directory)
        self.list_ahead.renew(directory)
        node = self.tree.names.peek(directory, name)
        if node is not None:
            self.tree.list_soon(node)  # a name in it is asked for next
        return node

    async def lookup(self, directory: Node, name: bytes) -> Node:
        """What a name in a directory stands for; symlinks are not followed.

        Raises NoSuchPath, NameTooLong, Unreachable, RemoteError.
        """
        self.list_ahead.missed(directory, name)
        node = await self.tree.lookup(directory, name)
        self.tree.list_soon(node)
        return node

    async def find(self, path: bytes) -> Node:
        """What a path below the root stands for, symlinks followed. Raises as `lookup`, NotDirectory and EndlessSymlink."""
        return await self.tree.find(path)

    def attributes_now(self, node: Node) -> Shown | None:
        """The node's attributes. Raises StaleVersion when its name stands for another node by now, and it has no reader."""
        if node.kind is Kind.DIRECTORY:
            self._used.note(node)
        if not (self.tree.names.fresh(node) or self.tree.shown_offline(node) or self._read_on(node)):
            return None
        return self.shown(node)

    async def attributes(self, node: Node) -> Shown:
        """The node's attributes. Raises StaleVersion, Unreachable, RemoteError."""
        if not node.stale:
            await self.tree.refresh(node)
            await self.tree.versions.rechecked(node)
        self._read_on(node)
        return self.shown(node)

    def _read_on(self, node: Node) -> bool:
        """Whether the node is stale and has readers. Raises StaleVersion when it has none."""
        if node.stale and not (node.content is not None and node.content.readers):
            raise StaleVersion(f"{node.path!r} was replaced")
        return node.stale

    # --- directories ----------------------------------------------------------------------------------------------

    def listing_now(self, directory: Node) -> Mapping[bytes, Node] | None:
        """The children of a directory that a program opens, by name: live, so copy what you keep."""
        self._used.note(directory)
        self.list_ahead.note(directory)
        if not self.tree.names.listed(directory):
            return None
        self.list_ahead.served()
        return directory.children

    async def listing(self, directory: Node) -> Mapping[bytes, Node]:
        """As `listing_now`, after which it is called. Raises NoSuchPath, Unreachable, RemoteError."""
        await self.tree.refresh_listing(directory)
        self.list_ahead.served()
        return directory.children

    # --- bytes ----------------------------------------------------------------------------------------------------

    async def open(self, node: Node) -> Reader:
        """A reader of the file, to be closed. Raises Unsupported for what is no file, else as `open_reader`."""
        if node.kind is not Kind.FILE:
            raise Unsupported(f"{node.path!r} is not a file")
        if node.parent is not None:
            self._used.note(node.parent)
        reader = await open_reader(self.tree, self.fetcher, node)
        self.fetch_ahead.note(node)
        return reader

    async def read_latest(self, reader: Reader, offset: int, size: int) -> list[Piece]:
        """As `Reader.read`, but at the end of the file the file is asked for growth first.

        For frontends below which no kernel asks for attributes. Raises as that and `attributes`.
        """
        if offset + size > reader.size and not reader.node.stale:
            await self.tree.refresh(reader.node)
        pieces = reader.read_now(offset, size)
        return await reader.read(offset, size) if pieces is None else pieces

    # --- the rest ---------------------------------------------------------------------------------------------------

    async def statfs(self) -> os.statvfs_result:
        """The figures of the server's file system, at most `FS_SECONDS` old. Raises Unreachable, RemoteError."""
        heard = self._fs[0] if self._fs is not None else None
        if heard is None or loop_time() - heard > FS_SECONDS:
            await self.tree.requests.ask(("statfs", self.root.path), self._ask_statfs, heard=heard)
        return self._fs[1] if self._fs is not None else NO_STATS

    async def _ask_statfs(self) -> None:
        now = loop_time()
        self._fs = now, await self.fetcher.remote.statvfs(self.root.path) or NO_STATS

    async def xattr(self, node: Node, name: bytes) -> bytes:
        """The value of one of `xattrs.NAMES`. Raises NoSuchPath where `has_xattr` is false; else as `open` and `read`."""
        if not self.has_xattr(node, name):
            raise NoSuchPath(f"{node.path!r} has no attribute {name!r}")
        return await xattrs.value(self.tree, self.fetcher, node, name)

    def has_xattr(self, node: Node, name: bytes) -> bool:
        """Whether the node has an extended attribute of this name."""
        return node.kind is Kind.FILE and name in xattrs.NAMES

    async def aclose(self) -> None:
        """End what is listed and fetched ahead of programs."""
        self._used.close()
        await self.fetch_ahead.aclose()
        await self.list_ahead.aclose()
