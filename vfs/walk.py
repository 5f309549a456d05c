"""Listing ahead of a walker: a program that opens one directory after another gets the rest listed before it asks.

Owned by the event loop's thread. One look at one directory never starts a crawl: it takes a directory and two of its
children, opened within a few seconds. A crawl goes breadth first and stops when nobody walks any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from vfs.errors import ArtisyncError
from vfs.node import Kind, Node

if TYPE_CHECKING:
    from vfs.tree import Tree

log = logging.getLogger(__name__)

PATTERN_SECONDS = 5.0
"""Two children of one directory opened within this time are a walk; without any for so long, it is over."""
AT_ONCE = 256
"""Directories listed at a time, so that 800 of them take some ten round trips; OpenSSH allows a thousand handles."""
MOST = 20_000
"""Directories that one crawl lists at most."""


class Walk:
    """Notices walks through one tree and lists ahead of them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._opened: dict[Node, tuple[float, Node]] = {}
        """For each parent: when a child was last opened, and which."""
        self._crawls: dict[Node, asyncio.Task[None]] = {}
        self._last = 0.0

    def note(self, directory: Node) -> None:
        """A program opened a directory to list it."""
        now = asyncio.get_running_loop().time()
        self._last = now
        parent = directory.parent
        if parent is None:
            return
        before = self._opened.get(parent)
        self._opened[parent] = now, directory
        if before is None or before[1] is directory or now - before[0] > PATTERN_SECONDS:
            return
        if len(self._opened) > 1000:
            self._opened = {
                node: seen for node, seen in self._opened.items() if now - seen[0] < PATTERN_SECONDS
            }
        if not any(node in self._crawls for node in (parent, *parent.ancestors())):
            task = self._crawls[parent] = asyncio.ensure_future(self._crawl(parent))
            task.add_done_callback(lambda _: self._crawls.pop(parent, None))

    async def _crawl(self, top: Node) -> None:
        todo = deque([top])
        running: set[asyncio.Task[None]] = set()
        started = 0
        while todo or running:
            while todo and len(running) < AT_ONCE and started < MOST and self._wanted():
                started += 1
                running.add(asyncio.ensure_future(self._list(todo.popleft(), todo)))
            if not running:
                break
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        log.debug("listed %d directories ahead below %r", started, top.path)

    async def _list(self, directory: Node, todo: deque[Node]) -> None:
        try:
            await self._tree.list_ahead(directory)
        except (ArtisyncError, TimeoutError) as error:
            log.debug("cannot list %r ahead: %s", directory.path, error)
            return
        todo.extend(
            child
            for child in directory.children.values()
            if child.kind is Kind.DIRECTORY and not child.follow
        )

    def _wanted(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._last < PATTERN_SECONDS and not self._tree.silent()

    async def aclose(self) -> None:
        """End the crawls."""
        tasks = list(self._crawls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
