"""Forgets unused names, so that memory does not grow with every name that was ever listed.

Beyond MOST_NAMES, the names in the directories listed longest ago are forgotten, if the kernel holds none of them and nothing
refers to them: no open file or directory, no walk, no request, no command. Their listing stays in the cache and shows them
offline. Inode number and lineage follow from path and version, so a name comes back with the same ones. A directory is
forgotten after its names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from vfs.base.loop_time import loop_time
from vfs.base.slices import slices
from vfs.base.tasks import Tasks
from vfs.files.last_known import LastKnown
from vfs.files.namespace import Namespace
from vfs.files.node import NEVER, Node

MOST_NAMES = 100_000
"""Names kept at most while nothing refers to them: some 90 MB."""
AGAIN_SECONDS = 1.0
"""Seconds between two searches at least."""


class Forgetting:
    """Forgets names of one tree. `count`: the names that it has now."""

    def __init__(self, names: Namespace, last_known: LastKnown) -> None:
        self.count = 0
        self._names = names
        self._last_known = last_known
        self._directories: dict[Node, None] = {}
        """Directories with names in them, the one that got its last name longest ago first."""
        self._tasks = Tasks()
        self._not_before = NEVER

    def made(self, parent: Node) -> None:
        """A name was added to a directory."""
        self.count += 1
        self._directories.pop(parent, None)
        self._directories[parent] = None
        if self.count > MOST_NAMES:
            self.soon()

    def gone(self, node: Node) -> None:
        """A name was taken out of its directory."""
        self.count -= 1
        self._directories.pop(node, None)

    def soon(self) -> None:
        """Forget some names in the background if there are too many."""
        now = loop_time()
        if not self._tasks and self.count > MOST_NAMES and now >= self._not_before:
            self._tasks.spawn(self._forget())

    async def _forget(self) -> None:
        for directory in list(self._directories):
            if self.count <= MOST_NAMES * 0.9:
                break
            if directory in self._directories and not self._names.listed(directory):
                await self._empty(directory)
        self._not_before = loop_time() + AGAIN_SECONDS

    async def _empty(self, directory: Node) -> None:
        if directory.listed > NEVER:
            await self._last_known.remember(directory)
        children = directory.children
        async for names in slices(list(children)):
            for name in names:
                if name in children and _quiet(children[name]) and _references(children, name) == _UNUSED:
                    del children[name]
                    self.count -= 1
                    directory.listed = NEVER  # its children do not tell any more which names are absent
        if not children:
            self._directories.pop(directory, None)

    async def aclose(self) -> None:
        """Stop it."""
        await self._tasks.aclose()


def _quiet(node: Node) -> bool:
    """Whether the node has no state that the server or the cache lacks."""
    content = node.content
    if node.lookups or node.children or node.pending is not None:
        return False
    if content is None:
        return True
    return content.trusted and not (
        content.doubts or content.readers or content.jobs or content.file is not None
    )


def _references(children: Mapping[bytes, object], name: bytes) -> int:
    """How many places refer to a child."""
    child = children[name]
    return sys.getrefcount(child)


_UNUSED = _references({b"": object()}, b"")
"""The count when only the directory refers to it."""
