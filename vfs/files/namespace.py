"""The names of one tree as they were last heard: which node a name stands for, and how old its attributes are.

State only: nothing here awaits, or asks the server. A listing gives the names and attributes of all entries of a directory,
and is the unit of freshness.
"""

from __future__ import annotations

import asyncio
import itertools
import stat
from typing import Protocol

from vfs.base.errors import NameTooLong, NoSuchPath, StaleVersion
from vfs.base.file_version import Change, classify
from vfs.base.loop_time import loop_time
from vfs.files.node import NEVER, UNKNOWN, Kind, Node, version_of
from vfs.remote.api import LONGEST_NAME, LONGEST_PATH, Attributes

FILE_SECONDS = 1.0
"""A reader at the end of a file learns of growth when the kernel's attributes expire: at most this often."""
RETIRED_AT_ONCE = 10_000


class Contents(Protocol):
    """Learns of new attributes of files; see `Versions`."""

    def has_bytes(self, node: Node) -> bool: ...
    def adopt(self, node: Node, attributes: Attributes, at: float) -> None: ...
    def confirmed(self, node: Node) -> None: ...
    def retire(self, node: Node) -> None: ...


class Counter(Protocol):
    """Learns of names that come and go; see `Forgetting`."""

    def made(self, parent: Node) -> None: ...
    def gone(self, node: Node) -> None: ...
    def soon(self) -> None: ...


class Namespace:
    """`root`: the tree's path on the server. `ttl`: seconds for which an answer is fresh.

    `tell` must be called before anything is entered.
    """

    def __init__(self, root: bytes, ttl: float) -> None:
        self.ttl = ttl
        self._ids = itertools.count(1)
        self.root = Node(next(self._ids), None, b"", root, Attributes(stat.S_IFDIR | 0o555), loop_time())
        self.root.checked = NEVER
        self.root.lookups = 1
        self._held: dict[int, Node] = {self.root.id: self.root}
        self._contents: Contents
        self._counter: Counter

    def tell(self, contents: Contents, counter: Counter) -> None:
        """From now on, notify these two of changes."""
        self._contents, self._counter = contents, counter

    # --- freshness --------------------------------------------------------------------------------------------------

    def fresh(self, node: Node) -> bool:
        """Whether the node's attributes may be given without asking."""
        return not node.stale and node.pending is None and loop_time() - node.checked < self.ttl

    def listed(self, directory: Node) -> bool:
        """Whether the directory's listing may be given without asking."""
        return not directory.stale and loop_time() - directory.listed < self.ttl

    @property
    def _just_expired(self) -> float:
        """The time of an answer that must be asked for again."""
        return loop_time() - self.ttl - 0.001

    def valid_for(self, node: Node) -> float:
        """Seconds for which a client may keep the node's attributes, and that its name stands for it."""
        if node.stale or node.pending is not None:
            return 0.0
        left = node.checked + self.ttl - loop_time()
        return max(0.0, min(left, FILE_SECONDS) if node.kind is Kind.FILE else left)

    def absent_for(self, directory: Node) -> float:
        """Seconds for which a client may keep that a name is not in the directory."""
        return max(0.0, directory.listed + self.ttl - loop_time())

    def peek(self, parent: Node, name: bytes) -> Node | None:
        """The child if it is fresh; None: it has to be asked for.

        Raises NoSuchPath if its absence is fresh, NameTooLong if no server's system takes it.
        """
        child = parent.children.get(name)
        if child is not None:
            if not self.fresh(child):
                return None
            if child.checked == parent.listed:
                parent.served()
            return child
        if len(name) > LONGEST_NAME or len(parent.path) + 1 + len(name) > LONGEST_PATH:
            raise NameTooLong(f"{name!r} in a path of {len(parent.path)} bytes")
        if self.listed(parent):
            parent.served()
            raise NoSuchPath(name)
        absent, at = parent.lacks
        if name == absent and loop_time() - at < self.ttl:
            raise NoSuchPath(name)
        return None

    # --- references ---------------------------------------------------------------------------------------------

    def held(self, number: int) -> Node:
        """The held node whose `id` this is; ids are never used again. Raises StaleVersion."""
        node = self._held.get(number)
        if node is None:
            raise StaleVersion(f"there is no node {number}")
        return node

    def hold(self, node: Node) -> None:
        """A client was given the node once more."""
        node.lookups += 1
        self._held[node.id] = node

    def forget(self, number: int, count: int) -> None:
        """A client gave back `count` references."""
        node = self._held.get(number)
        if node is None or node is self.root:
            return
        node.lookups -= count
        if node.lookups <= 0:
            del self._held[number]
            self._counter.soon()

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
        """Enter what the server said of a name, asked at `at`; the node that the name stands for afterwards.

        `target`: the text of a symlink that is shown. `real`: where one leads that is shown as what it leads to.
        """
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
            old.since = loop_time()
        if old.kind is not Kind.FILE:
            old.attributes, old.checked = attributes, at
            return old
        return self._observe_file(old, attributes, at)

    def observe_node(self, node: Node, attributes: Attributes, at: float) -> None:
        """Enter what the server said of a node's path, symlinks followed where the node is shown in place of one."""
        if node.parent is not None and not node.stale:
            self.observe(node.parent, node.name, attributes, at, target=node.target, real=node.real)

    def _observe_file(self, old: Node, attributes: Attributes, at: float) -> Node:
        change = classify(old.version, version_of(attributes))
        if change is Change.REPLACED and at < old.since:
            # asked before the present attributes came: perhaps the server looked before, too, and so it is asked again
            old.checked = min(old.checked, self._just_expired)
            return old
        if change is Change.REPLACED:
            return self.replace(old, attributes, at)
        if change is Change.GROWN and self._contents.has_bytes(old):
            old.pending = attributes
            return old
        if change is Change.GROWN:
            self._contents.adopt(old, attributes, at)
        old.attributes, old.pending, old.checked = attributes, None, at
        self._contents.confirmed(old)
        return old

    def replace(
        self, old: Node, attributes: Attributes, at: float, target: bytes = b"", real: bytes | None = None
    ) -> Node:
        """The name stands for something else now: a new node takes its place."""
        self._retire([old])
        assert old.parent is not None
        return self.make(old.parent, old.name, attributes, at, target, real)

    def remove(self, node: Node) -> None:
        """The server says that the name is gone, or is something else by now."""
        self._retire([node])
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
            parent.changed = True
            parent.changes += 1
            parent.listed = min(parent.listed, self._just_expired)  # it does not tell what the name is now

    def _retire(self, gone: list[Node]) -> None:
        """Retire these nodes and all below. Beyond RETIRED_AT_ONCE the rest follows in the next steps of the loop."""
        for _ in range(RETIRED_AT_ONCE):
            if not gone:
                return
            node = gone.pop()
            if not node.stale:
                node.stale = True
                self._counter.gone(node)
            self._contents.retire(node)
            gone.extend(node.children.values())
            node.children = {}  # else both would be kept until a garbage collection
        asyncio.get_running_loop().call_soon(self._retire, gone)

    def make(
        self, parent: Node, name: bytes, attributes: Attributes, at: float, target: bytes, real: bytes | None
    ) -> Node:
        """A new node takes the name."""
        node = Node(next(self._ids), parent, name, join(parent.path, name), attributes, at)
        node.since = loop_time()  # the server may have looked just before it answered
        if real is not None:
            node.real, node.follow = real, True
        node.target = target
        parent.children[name] = node
        parent.changed = True
        parent.changes += 1
        self._counter.made(parent)
        if node.kind is Kind.FILE:
            self._contents.confirmed(node)
        return node


def join(directory: bytes, name: bytes) -> bytes:
    """The path of a name in a directory."""
    return directory.rstrip(b"/") + b"/" + name
