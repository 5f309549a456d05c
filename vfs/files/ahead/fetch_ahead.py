"""Files ahead of the programs that will open them: event files of all runs here, `neighbours.py` those of a directory.

One opened file fetches nothing else: it takes event files of two directories, opened within a few seconds, as TensorBoard
does; then those below the place that both have in common are fetched, all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from vfs import formats
from vfs.base.each import each
from vfs.base.loop_time import loop_time
from vfs.base.tasks import Tasks
from vfs.fetch.fetcher import Fetcher
from vfs.files.ahead.list_ahead import PATTERN_SECONDS
from vfs.files.ahead.neighbours import Neighbours
from vfs.files.node import NEVER, Kind, Node, common
from vfs.files.tree import Tree

LOOK_SECONDS = 0.25
"""Seconds between two searches of the tree for event files, at least; a crawl may find more of them meanwhile."""
LOOKED_AT_ONCE = 1000
"""Names looked at in one step of the loop: a tree may have hundreds of thousands."""
AT_ONCE = 64
"""Files opened on the server at a time."""
MOST_OF_ONE = 4 << 20
"""Bytes fetched of one file."""
MOST = 64 << 20
"""Bytes fetched at one time, so that what was fetched is still in memory when it is read."""
LIKELY = 8
"""The same, as a multiple of the remote's `spare`: more than other guesses get, since this one is hardly ever wrong."""
MOST_FILES = 1000


class FetchAhead:
    """Notices readers of many files, and fetches those that they will open next."""

    def __init__(self, tree: Tree, fetcher: Fetcher) -> None:
        self._tree = tree
        self._fetcher = fetcher
        self._opened: dict[Node, float] = {}
        """For each directory: when one of its event files was last opened."""
        self._tasks = Tasks()
        self._looked = NEVER
        self._neighbours = Neighbours(tree, fetcher)

    def note(self, node: Node) -> None:
        """A program opened a file."""
        if not formats.is_events(node.name):
            self._neighbours.note(node)
            return
        if self._fetcher.remote.metered or node.parent is None:
            return
        now = loop_time()
        self._opened[node.parent] = now
        self._opened = {parent: at for parent, at in self._opened.items() if now - at < PATTERN_SECONDS}
        if len(self._opened) > 1 and not self._tasks and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._tasks.spawn(self._fetch(common(list(self._opened))))

    async def _wanted(self, top: Node) -> AsyncIterator[Node]:
        """The event files below `top` without a cached byte, within bounds of bytes and files."""
        most = min(MOST, LIKELY * self._fetcher.remote.spare)
        total = count = looked = 0
        todo = [top]
        while todo:
            looked += 1
            if looked % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            node = todo.pop()
            if node.kind is Kind.DIRECTORY:
                todo.extend(node.children.values())
            elif node.kind is Kind.FILE and node.content is None and formats.is_events(node.name):
                total += min(node.attributes.size, MOST_OF_ONE)
                count += 1
                if total > most or count > MOST_FILES:
                    return
                yield node

    async def _fetch(self, top: Node) -> None:
        nodes = [node async for node in self._wanted(top)]

        async def one(node: Node) -> None:
            content = await self._tree.versions.open_ahead(node)
            if content is not None:
                self._fetcher.ahead(self, content, [(0, min(content.version.size, MOST_OF_ONE))])

        if not self._tree.requests.silent():
            await each(nodes, one, AT_ONCE)

    async def aclose(self) -> None:
        """Stop fetching."""
        await self._neighbours.aclose()
        await self._tasks.aclose()
