"""The tree of entries and attributes: how old they are, who asks for them anew, and which node a name stands for.

Owned by the event loop's thread; there are no locks. A listing gives the names and attributes of all entries of a
directory and is the unit of freshness; a single name that is past the TTL is asked for alone. Each question is asked
once at a time, however many wait for the answer. Offline, what was last known is the answer; over a silent link, what was
fresh when the silence began.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import stat
from collections.abc import Coroutine
from typing import Any

from vfs.base.errors import AccessDenied, EndlessLink, NameTooLong, NoSuchPath, NotDirectory
from vfs.base.file_version import Change, classify, settled
from vfs.cache.blocks import BlockCache
from vfs.fetch.fetcher import Fetcher
from vfs.files.forgetting import Forgetting
from vfs.files.last_known import UNKNOWN, LastKnown
from vfs.files.listings import join
from vfs.files.node import LONG_AGO, NEVER, Kind, Node, version_of
from vfs.files.requests import Key, Questions
from vfs.files.versions import Versions
from vfs.remote.api import LONGEST_NAME, LONGEST_PATH, Attributes, Remote

FILE_SECONDS = 1.0
"""A reader at the end of a file learns of growth when the kernel's attributes expire: at most this often."""
SINGLY = 4
"""So many names of one directory asked for within a TTL, and the directory is listed."""
RETIRED_AT_ONCE = 10_000
CROWD = 32
"""So many, and the next ones wait for the listing instead of being asked for, too."""


class Tree:
    """Nodes by id, and below the root by name."""

    def __init__(
        self, remote: Remote, fetcher: Fetcher, cache: BlockCache, root: bytes, identity: str, ttl: float
    ) -> None:
        self.remote = remote
        self.cache = cache
        self.ttl = ttl
        self.identity = identity
        self._ids = itertools.count(1)
        self._questions = Questions(self)
        self.versions = Versions(self, fetcher, cache)
        self.last_known = LastKnown(self)
        self.forgetting = Forgetting(self)
        self.root = Node(
            next(self._ids),
            None,
            b"",
            root,
            Attributes(stat.S_IFDIR | 0o555),
            asyncio.get_running_loop().time(),
        )
        self.root.checked = NEVER
        self.root.lookups = 1
        self.nodes: dict[int, Node] = {self.root.id: self.root}

    # --- what is known, without asking ----------------------------------------------------------------------

    def fresh(self, node: Node) -> bool:
        """Whether the node's attributes may be given out without asking."""
        return not node.stale and node.pending is None and self._now() - node.checked < self.ttl

    def listed(self, directory: Node) -> bool:
        """Whether the directory's listing may be given out without asking."""
        return not directory.stale and self._now() - directory.listed < self.ttl

    def valid_for(self, node: Node) -> float:
        """Seconds for which the kernel may keep what it is told of the node."""
        if node.stale or node.pending is not None:
            return 0.0
        left = node.checked + self.ttl - self._now()
        return max(0.0, min(left, FILE_SECONDS) if node.kind is Kind.FILE else left)

    def absent_for(self, directory: Node) -> float:
        """Seconds for which the kernel may keep that a name is not in the directory."""
        return max(0.0, directory.listed + self.ttl - self._now())

    def silent(self) -> bool:
        """Whether the server cannot be asked just now: offline, or owing an answer for suspiciously long."""
        return self._questions.silent()

    def peek(self, parent: Node, name: bytes) -> Node | None:
        """The child if it is known and fresh; None says to `lookup`.

        Raises NoSuchPath if its absence is fresh, NameTooLong if no server's system takes it.
        """
        child = parent.children.get(name)
        if child is not None:
            return child if self.fresh(child) else None
        if len(name) > LONGEST_NAME or len(parent.path) + 1 + len(name) > LONGEST_PATH:
            raise NameTooLong(f"{name!r} in a path of {len(parent.path)} bytes")
        if self.listed(parent):
            raise NoSuchPath(name)
        return None

    # --- asking -----------------------------------------------------------------------------------------------

    async def ask(self, key: Key, work: Coroutine[Any, Any, None], *, known: float | None) -> None:
        """See `Questions.ask`."""
        await self._questions.ask(key, work, known=known)

    async def lookup(self, parent: Node, name: bytes) -> Node:
        """The node that a name stands for now.

        Raises NoSuchPath when the server says so, Unreachable when it cannot be asked and nothing is known.
        """
        child = self.peek(parent, name)
        if child is not None:
            return child
        if name not in parent.children:
            await self._recall_offline(parent)
        if not self._asked(parent, name) and not self.silent():
            names = self._count(parent)
            if names >= CROWD and not parent.slow:
                with contextlib.suppress(AccessDenied):  # it may be entered all the same
                    await self.refresh_listing(parent)
            elif names >= SINGLY:
                self._list_in_background(parent)
        child = parent.children.get(name)
        if child is None and not self.listed(parent):
            self.list_soon(parent)
            await self._questions.ask(
                ("name", join(parent.path, name)), self._questions.name(parent, name), known=None
            )
            child = parent.children.get(name)
        if child is not None:
            if child.kind is Kind.FILE and not self.fresh(child) and not self.silent():
                self.versions.open_early(child)
            await self.refresh(child)
            child = parent.children.get(name)
        if child is None:
            raise NoSuchPath(f"{join(parent.path, name)!r}")
        return child

    async def refresh(self, node: Node) -> None:
        """Ask for a node's attributes if they are past the TTL. Afterwards `stale` may be set."""
        if self.fresh(node) or node.stale:
            return
        known = None if node is self.root and node.checked == NEVER else node.checked
        await self._questions.ask(("node", node.path), self._questions.node(node), known=known)

    async def look(self, node: Node) -> None:
        """Ask for a node's attributes whatever their age."""
        if not node.stale:
            await self._questions.ask(("node", node.path), self._questions.node(node), known=None)

    def refresh_soon(self, node: Node) -> None:
        """Ask in the background, when half of the TTL is over."""
        key = "node", node.path
        old = self._now() - node.checked > self.ttl / 2
        if old and key not in self._questions and not node.stale and not self.silent():
            self._questions.start(key, self._questions.node(node))

    def list_soon(self, directory: Node) -> None:
        """List a directory that programs look into: its files' attributes are watched, and it can be shown offline."""
        if directory.kind is Kind.DIRECTORY and directory.listed == NEVER and not self.silent():
            self._list_in_background(directory)

    def _list_in_background(self, directory: Node) -> None:
        key = "list", directory.path
        if key not in self._questions and not self.listed(directory) and not directory.large:
            self._questions.start(key, self._questions.listing(directory))

    async def refresh_listing(self, directory: Node) -> None:
        """List a directory if its listing is past the TTL.

        Raises NoSuchPath when it is gone, Unreachable when it cannot be asked and was never listed.
        """
        if self.listed(directory):
            return
        await self._recall_offline(directory)
        directory.waiters += 1
        try:
            await self.list_ahead(directory)
        finally:
            directory.waiters -= 1

    async def list_ahead(self, directory: Node) -> None:
        """As `refresh_listing`, for nobody who waits: raises ListingTooLong when there are very many names."""
        if not self.listed(directory):
            known = directory.listed if directory.listed > NEVER else None
            await self._questions.ask(
                ("list", directory.path), self._questions.listing(directory), known=known
            )

    async def listing(self, directory: Node) -> list[Node]:
        """The children of a directory, fresh."""
        await self.refresh_listing(directory)
        return list(directory.children.values())

    async def find(self, path: bytes) -> Node:
        """The node at a path relative to the root, links inside the root followed. Raises NoSuchPath, NotDirectory."""
        node, hops = self.root, 0
        todo = [word for word in path.split(b"/") if word not in (b"", b".")]
        while todo:
            word = todo.pop(0)
            if word == b"..":
                node = node.parent or node
                continue
            if node.kind is not Kind.DIRECTORY:
                raise NotDirectory(f"{node.path!r}")
            node = await self.lookup(node, word)
            if node.kind is Kind.LINK:
                hops += 1
                if hops > 40:
                    raise EndlessLink(f"{node.path!r}")
                todo = [w for w in node.target.split(b"/") if w not in (b"", b".")] + todo
                node = node.parent or self.root
        return node

    async def start(self) -> None:
        """List the root once. Raises what the server says, Unreachable when it cannot be asked."""
        await asyncio.gather(self._questions.node(self.root), self._questions.listing(self.root))

    async def recall_root(self) -> bool:
        """Whether an earlier mount left a listing of the root; it is shown while the server cannot be asked."""
        return await self.last_known.recall(self.root)

    # --- references ---------------------------------------------------------------------------------------------

    def get(self, nodeid: int) -> Node:
        """The node of a nodeid that the kernel holds. Raises KeyError for one that was forgotten."""
        return self.nodes[nodeid]

    def hold(self, node: Node) -> None:
        """The kernel was given the node once more."""
        node.lookups += 1
        self.nodes[node.id] = node

    def forget(self, nodeid: int, count: int) -> None:
        """The kernel gave back `count` references."""
        node = self.nodes.get(nodeid)
        if node is None or node is self.root:
            return
        node.lookups -= count
        if node.lookups <= 0:
            del self.nodes[nodeid]
            self.forgetting.soon()

    # --- what the server answered ---------------------------------------------------------------------------------

    def observe(
        self,
        parent: Node,
        name: bytes,
        attributes: Attributes,
        at: float,
        *,
        target: bytes = b"",
        real: bytes | None = None,
    ) -> Node:
        """Take in what the server said of a name, asked at `at`; the node that the name stands for afterwards."""
        old = parent.children.get(name)
        if old is None:
            return self.make(parent, name, attributes, at, target, real)
        if at < old.checked:
            return old
        if old.attributes != attributes:
            parent.changed = True
        elif old.settled and old.pending is None and not target and real is None and not old.follow:
            old.checked = at  # a file as it was, which is what most are
            return old
        same_kind = stat.S_IFMT(old.attributes.mode) == stat.S_IFMT(attributes.mode)
        if old.real == UNKNOWN and real is not None:
            old.real = real
        if not same_kind or old.target != target or old.real != real:
            return self.replace(old, attributes, at, target, real)
        if old.checked == NEVER:
            old.since = self._now()
        if old.kind is not Kind.FILE:
            old.attributes, old.checked = attributes, at
            return old
        return self._observe_file(old, attributes, at)

    def observe_node(self, node: Node, attributes: Attributes, at: float) -> None:
        """Take in what the server said of a node's path, links followed where the node is shown in place of one."""
        if node.parent is not None and not node.stale:
            self.observe(node.parent, node.name, attributes, at, target=node.target, real=node.real)

    def _observe_file(self, old: Node, attributes: Attributes, at: float) -> Node:
        change = classify(old.version, version_of(attributes))
        if change is Change.REPLACED:
            return self.replace(old, attributes, at)
        if change is Change.GROWN and self.versions.has_bytes(old):
            old.pending = attributes
            return old
        if change is Change.GROWN:
            self.versions.adopt(old, attributes, at)
        old.attributes, old.pending, old.checked = attributes, None, at
        self._settle(old)
        return old

    def _settle(self, node: Node) -> None:
        if not node.settled and settled(node.version, node.checked - node.since, self.remote.link.past):
            node.settled = True
            self.versions.became_settled(node)

    def replace(
        self, old: Node, attributes: Attributes, at: float, target: bytes = b"", real: bytes | None = None
    ) -> Node:
        """The name stands for something else now: a new node takes its place."""
        self._retire(old)
        assert old.parent is not None
        return self.make(old.parent, old.name, attributes, at, target, real)

    def remove(self, node: Node) -> None:
        """The server says that the name is gone, or is something else by now."""
        self._retire(node)
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
            parent.changed = True
            parent.changes += 1
            parent.listed = min(parent.listed, self._past())  # it does not tell what the name is now

    def _retire(self, node: Node) -> None:
        self._retire_some([node])

    def _retire_some(self, gone: list[Node]) -> None:
        """All of them, and what is below; the rest of very many a little later, before they are past the TTL."""
        for _ in range(RETIRED_AT_ONCE):
            if not gone:
                return
            node = gone.pop()
            if not node.stale:
                node.stale = True
                self.forgetting.gone(node)
            self.versions.retire(node)
            gone.extend(node.children.values())
            node.children = {}  # else both would be kept until a garbage collection
        asyncio.get_running_loop().call_soon(self._retire_some, gone)

    def make(
        self, parent: Node, name: bytes, attributes: Attributes, at: float, target: bytes, real: bytes | None
    ) -> Node:
        """A new node takes the name."""
        node = Node(next(self._ids), parent, name, join(parent.path, name), attributes, at)
        node.since = self._now()  # the server may have looked just before it answered
        if real is not None:
            node.real, node.follow = real, True
        node.target = target
        parent.children[name] = node
        parent.changed = True
        self.forgetting.made(parent)
        parent.changes += 1
        if node.kind is Kind.FILE:
            self._settle(node)
        return node

    def _asked(self, directory: Node, name: bytes) -> bool:
        """Whether a name is being asked for just now."""
        path = join(directory.path, name)
        return ("name", path) in self._questions or ("node", path) in self._questions

    def _count(self, directory: Node) -> int:
        """Note that a name is asked for alone; how many were within the TTL."""
        now = self._now()
        directory.asked = [time for time in directory.asked if now - time < self.ttl]
        directory.asked.append(now)
        return len(directory.asked)

    # --- below ------------------------------------------------------------------------------------------------------

    async def _recall_offline(self, directory: Node) -> None:
        if directory.listed == NEVER and self._questions.may_give(LONG_AGO):
            await self.last_known.recall(directory)

    def _past(self) -> float:
        """A moment that is just beyond the TTL."""
        return self._now() - self.ttl - 0.001

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def aclose(self) -> None:
        """End the questions under way."""
        await self.forgetting.aclose()
        await self._questions.aclose()
        await self.versions.aclose()
