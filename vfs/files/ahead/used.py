"""Asks ahead for the directories that a program used last, so that it waits for none of them when it comes back.

The kernel looks at each directory of a path in turn, and waits a round trip for each that is past the TTL. So the directories
used last are asked for together when one of them is used again, and kept fresh for some seconds from then on. Only where a
round trip is long, though shorter than the TTL, and bytes cost nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from vfs.base.loop_time import loop_time
from vfs.files.node import NEVER, Node
from vfs.files.tree import Tree

FAR = 0.02
"""Round trips in seconds for which it is worth the requests."""
KEPT_SECONDS = 10.0
"""How long after its last use a directory is kept fresh."""
MOST = 16
"""Directories that are remembered."""
LOOKS = 8
"""In one TTL: looks for what would expire before the answer to a later one."""


class Used:
    """The directories that were used last in one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._directories: OrderedDict[Node, float] = OrderedDict()
        """When each was last used; that used longest ago is first."""
        self._timer: asyncio.TimerHandle | None = None

    def note(self, directory: Node) -> None:
        """A program lists a directory, or asks for it or for a name in it."""
        remote = self._tree.remote
        if remote.metered or not FAR <= remote.link.rtt < self._tree.names.ttl:
            return
        self._directories[directory] = loop_time()
        self._directories.move_to_end(directory)
        if len(self._directories) > MOST:
            self._directories.popitem(last=False)
        if self._timer is None:
            self._refresh(NEVER)

    def _refresh(self, since: float) -> None:
        """Ask for those used since then; ends when none was."""
        self._timer = None
        pause = self._tree.names.ttl / LOOKS
        recent = [directory for directory, at in self._directories.items() if at >= since]
        for directory in recent:
            self._tree.refresh_soon(directory, pause + self._tree.remote.link.rtt)
        if recent:
            self._timer = asyncio.get_running_loop().call_later(pause, self._again)

    def _again(self) -> None:
        self._refresh(loop_time() - KEPT_SECONDS)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._timer is not None:
            self._timer.cancel()
