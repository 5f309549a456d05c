"""Looks up, refreshes, lists and finds names: answers from the namespace while it is fresh, else asks the server.

A name past the TTL is asked for alone; a directory in which many are asked for is listed. Every request is single-flight; see
`requests.py` for what is answered while the server is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from vfs.base.errors import (
    AccessDenied,
    ArtisyncError,
    EndlessSymlink,
    NoSuchPath,
    NotDirectory,
    RootUnusable,
)
from vfs.base.loop_time import loop_time
from vfs.cache.blocks import BlockCache
from vfs.fetch.fetcher import Fetcher
from vfs.files.forgetting import Forgetting
from vfs.files.last_known import LastKnown
from vfs.files.lineages import Lineages
from vfs.files.listings import Listings
from vfs.files.namespace import Namespace, join
from vfs.files.node import LONG_AGO, NEVER, Kind, Node
from vfs.files.requests import Requests
from vfs.files.resolve import Resolver
from vfs.files.symlinks import NOWHERE
from vfs.files.versions import Versions
from vfs.remote.api import MOST_SYMLINKS, Remote

log = logging.getLogger(__name__)

SINGLY = 4
"""After this many lookups in one directory within a TTL, the directory is listed."""
CROWD = 32
"""After this many, further lookups wait for its listing and send no request of their own."""


class Tree:
    """`names`: the last answers. `versions` and `lineages`: the bytes that belong to them. `requests`: those in flight.

    `root` is the real path of the root on `remote`; `identity` names the tree in the cache; `ttl` is in seconds.
    """

    def __init__(
        self, remote: Remote, fetcher: Fetcher, cache: BlockCache, root: bytes, identity: str, ttl: float
    ) -> None:
        self.remote = remote
        self.cache = cache
        self.names = Namespace(root, ttl)
        self.root = self.names.root
        self.requests = Requests(remote, ttl)
        self._resolver = Resolver(self.names, remote)
        self._last_known = LastKnown(self.names, cache, identity)
        self._listings = Listings(self.names, remote, self._resolver, self._last_known)
        self.lineages = Lineages(self.requests, fetcher, cache, identity)
        self.versions = Versions(self.names, self.requests, self._resolver, fetcher, self.lineages)
        self.forgetting = Forgetting(self.names, self._last_known)
        self.names.tell(self.versions, self.forgetting)

    # --- names ------------------------------------------------------------------------------------------------------

    async def lookup(self, parent: Node, name: bytes) -> Node:
        """The node that a name stands for now.

        Raises NoSuchPath when the server says so, Unreachable when it cannot be asked and was not heard before;
        NameTooLong, RemoteError.
        """
        child = self.names.peek(parent, name)
        if child is not None:
            return child
        if name == NOWHERE:
            raise NoSuchPath(f"{join(parent.path, name)!r}")
        if name not in parent.children:
            await self._recall_offline(parent)
        if not self._asked(parent, name) and not self.requests.silent():
            names = self._count(parent)
            if names >= CROWD and not parent.slow:
                with contextlib.suppress(AccessDenied):  # it may be entered all the same
                    await self.refresh_listing(parent)
            elif names >= SINGLY and not self.names.listed(parent):
                self.list_again(parent)
        child = parent.children.get(name)
        if child is None and not self.names.listed(parent):
            self.list_soon(parent)
            child = await self._ask_name(parent, name)
        if child is not None:
            if child.kind is Kind.FILE and not self.names.fresh(child) and not self.requests.silent():
                self.versions.open_early(child)
            await self.refresh(child)
            child = parent.children.get(name)
        if child is None:
            raise NoSuchPath(f"{join(parent.path, name)!r}")
        return child

    async def _ask_name(self, parent: Node, name: bytes) -> Node | None:
        key = "name", join(parent.path, name)
        await self.requests.ask(key, lambda: self._resolver.name(parent, name), heard=None)
        return parent.children.get(name)

    async def find(self, path: bytes, *, sure: bool = False) -> Node:
        """The node at a path relative to the root, symlinks inside the root followed.

        With `sure`, a name that a fresh listing lacks is asked for. Raises as `lookup`, NotDirectory and EndlessSymlink.
        """
        node, hops = self.root, 0
        todo = [word for word in path.split(b"/") if word not in (b"", b".")]
        while todo:
            word = todo.pop(0)
            if word == b"..":
                node = node.parent or node
                continue
            if node.kind is not Kind.DIRECTORY:
                raise NotDirectory(f"{node.path!r}")
            parent = node
            try:
                node = await self.lookup(parent, word)
            except NoSuchPath:
                made = await self._ask_name(parent, word) if sure else None
                if made is None:
                    raise
                node = made
            if node.kind is Kind.SYMLINK:
                hops += 1
                if hops > MOST_SYMLINKS:
                    raise EndlessSymlink(f"{os.fsdecode(path)} leads in a circle of symbolic links")
                todo = [w for w in node.target.split(b"/") if w not in (b"", b".")] + todo
                node = node.parent or self.root
        return node

    # --- attributes -------------------------------------------------------------------------------------------------

    async def refresh(self, node: Node) -> None:
        """Ask for a node's attributes if they are past the TTL. Afterwards `stale` may be set.

        Raises Unreachable, RemoteError.
        """
        if not self.names.fresh(node) and not node.stale:
            await self.versions.ask(
                node, None if node.checked == NEVER and node is self.root else node.checked
            )

    def shown_offline(self, node: Node) -> bool:
        """Whether the node's attributes are shown whatever their age, because the server cannot be asked."""
        heard = node.checked != NEVER or node is not self.root
        return heard and not node.stale and node.pending is None and not self.remote.link.online

    def refresh_soon(self, node: Node, left: float | None = None) -> None:
        """Ask in the background for what is fresh for no more than `left` seconds, by default half of the TTL: the node, and
        the directories that lead to it.

        A program that opens a file beside one that is being read then waits for none of its directories.
        """
        ttl = self.names.ttl
        before = loop_time() - ttl + (ttl / 2 if left is None else left)
        for one in (node, *node.ancestors()):
            if one.checked < before and not one.stale and not self.requests.silent():
                self.versions.ask_soon(one)

    # --- listings ---------------------------------------------------------------------------------------------------

    def list_soon(self, directory: Node) -> None:
        """List a directory that programs look into: its files' attributes are watched, and it can be shown offline."""
        if directory.kind is Kind.DIRECTORY and directory.listed == NEVER and not self.requests.silent():
            self.list_again(directory)

    def list_again(self, directory: Node) -> None:
        """List a directory in the background, whatever the age of its listing; a very large one is left alone."""
        if not directory.large:
            self.requests.start(("list", directory.path), lambda: self._listings.listing(directory))

    async def refresh_listing(self, directory: Node) -> None:
        """List a directory if its listing is past the TTL.

        Raises NoSuchPath when it is gone, Unreachable when it cannot be asked and was never listed; RemoteError.
        """
        if self.names.listed(directory):
            return
        await self._recall_offline(directory)
        directory.waiters += 1
        try:
            await self._list(directory)
        finally:
            directory.waiters -= 1

    async def _list(self, directory: Node) -> None:
        heard = directory.listed if directory.listed > NEVER else None
        key = "list", directory.path
        await self.requests.ask(key, lambda: self._listings.listing(directory), heard=heard)

    async def list_ahead(self, directory: Node) -> None:
        """List a directory for which no program waits, if it can be listed and has not very many names."""
        try:
            await self._list(directory)
        except (ArtisyncError, TimeoutError) as error:
            log.debug("cannot list %r ahead: %s", directory.path, error)

    async def listing(self, directory: Node) -> list[Node]:
        """The children of a directory, fresh. Raises as `refresh_listing`; RootUnusable when the root itself is gone."""
        try:
            await self.refresh_listing(directory)
        except NoSuchPath as error:
            if directory is self.root:
                raise RootUnusable(f"there is no {os.fsdecode(directory.path)} on the server") from error
            raise
        return list(directory.children.values())

    # --- a mount's begin and end --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """List the root once. Raises what the server says, Unreachable when it cannot be asked."""
        await asyncio.gather(self._resolver.node(self.root), self._listings.listing(self.root))

    async def recall_root(self) -> bool:
        """Whether an earlier mount left a listing of the root; it is shown while the server cannot be asked."""
        return await self._last_known.recall(self.root)

    async def aclose(self) -> None:
        """End what is in flight."""
        await self.forgetting.aclose()
        await self.requests.aclose()
        await self.versions.aclose()
        await self.lineages.aclose()

    # --- below ------------------------------------------------------------------------------------------------------

    def _asked(self, directory: Node, name: bytes) -> bool:
        """Whether a request about this name is in flight."""
        path = join(directory.path, name)
        return ("name", path) in self.requests or ("node", path) in self.requests

    def _count(self, directory: Node) -> int:
        """Note that a name is asked for alone; how many were within the TTL."""
        now = loop_time()
        directory.asked = [time for time in directory.asked if now - time < self.names.ttl]
        directory.asked.append(now)
        return len(directory.asked)

    async def _recall_offline(self, directory: Node) -> None:
        if directory.listed == NEVER and self.requests.may_give(LONG_AGO):
            await self._last_known.recall(directory)
