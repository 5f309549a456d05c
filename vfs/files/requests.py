"""What the tree asks of the server, and what the answers say. Each question is asked once at a time.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from vfs.base.errors import NoSuchPath, NotDirectory, Unreachable
from vfs.files.following import follow
from vfs.files.listings import Listings, join
from vfs.files.node import Kind, Node
from vfs.remote.api import Attributes

if TYPE_CHECKING:
    from vfs.files.tree import Tree

log = logging.getLogger(__name__)

_FRESH_ONLY: ContextVar[bool] = ContextVar("fresh_only", default=False)

Key = tuple[str, bytes]
"""The kind of a question (node, name, list, room), and the path that it is about."""


class Questions:
    """The questions of one tree; `Tree.observe` and `Tree.remove` take in what the server said."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._remote = tree.remote
        self._listings = Listings(tree, self)
        self._under_way: dict[Key, asyncio.Task[None]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._under_way

    def silent(self) -> bool:
        """Whether the server cannot be asked just now: offline, or owing an answer for suspiciously long."""
        link = self._remote.link
        return not link.online or link.silence > link.patience

    def may_give(self, known: float | None) -> bool:
        """Whether what the server said at `known` may be given without its answer; None: it never said anything.

        Offline all that is known may; over a silent link what was fresh when the silence began; for who is in a
        `fresh_only` block, nothing.
        """
        link = self._remote.link
        if known is None or _FRESH_ONLY.get():
            return False
        if not link.online:
            return True
        return link.silence > link.patience and _now() - link.silence - known < self._tree.ttl

    async def ask(self, key: Key, work: Coroutine[Any, Any, None], *, known: float | None) -> None:
        """Wait for the answer to a question, which is asked once at a time; no longer than until `may_give`."""
        link = self._remote.link
        task = self._under_way.get(key)
        if task is not None:
            work.close()
        elif not link.online and self.may_give(known):
            work.close()
            return
        else:
            task = self.start(key, work)
        while not task.done():
            if self.may_give(known):
                return
            await asyncio.wait({task}, timeout=None if known is None else link.patience)
        try:
            task.result()
        except Unreachable:
            if not self.may_give(known):
                raise

    def start(self, key: Key, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._under_way[key] = asyncio.ensure_future(work)

        def over(task: asyncio.Task[None]) -> None:
            self._under_way.pop(key, None)
            if not task.cancelled():
                task.exception()

        task.add_done_callback(over)
        return task

    async def node(self, node: Node) -> None:
        """What the node's path stands for now, and of a file that grew, whether it is the same one."""
        at = _now()
        if node.pending is None:
            try:
                await self._attributes(node)
            except NoSuchPath:
                if node.parent is not None:
                    self._tree.remove(node)
                    return
                raise
        if node.pending is not None and not node.stale:
            await self._tree.versions.verify(node, at)

    async def _attributes(self, node: Node) -> None:
        at = _now()
        if node.parent is None:
            node.attributes, node.checked = await self._remote.stat(node.path), at
            if not node.attributes.is_dir:
                raise NotDirectory(f"{node.path!r}")
        elif node.kind is Kind.LINK or node.follow:
            await self.name(node.parent, node.name)
        else:
            attributes = await self._remote.lstat(node.path)
            if attributes.is_link:
                await self.observe_link(node.parent, node.name, attributes, at)
            else:
                self._tree.observe_node(node, attributes, at)

    async def name(self, parent: Node, name: bytes) -> None:
        """What a name stands for now. Raises NoSuchPath, ServerFailure, Unreachable."""
        at = _now()
        try:
            attributes = await self._remote.lstat(join(parent.path, name))
        except NoSuchPath:
            child = parent.children.get(name)
            if child is not None and child.checked <= at:
                self._tree.remove(child)
            raise
        if attributes.is_link:
            await self.observe_link(parent, name, attributes, at)
        else:
            self._tree.observe(parent, name, attributes, at)

    async def observe_link(self, parent: Node, name: bytes, attributes: Attributes, at: float) -> None:
        """Find out what a link is shown as, and take it in. Raises ServerFailure when that cannot be told just now."""
        shown = await follow(self._remote, self._tree.root.path, parent, join(parent.path, name))
        what = attributes if shown.followed is None else shown.followed
        self._tree.observe(parent, name, what, at, target=shown.target, real=shown.real)

    async def listing(self, directory: Node) -> None:
        """See `Listings.listing`."""
        await self._listings.listing(directory)

    async def aclose(self) -> None:
        """End the questions under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def fresh_only() -> Iterator[None]:
    """In the block, and in tasks that are started there, no tree answers with what is last known.

    It asks, waits, and raises Unreachable as for what is not known. For who decides by the answer, not only shows it.
    """
    token = _FRESH_ONLY.set(True)
    try:
        yield
    finally:
        _FRESH_ONLY.reset(token)


def _now() -> float:
    return asyncio.get_running_loop().time()
