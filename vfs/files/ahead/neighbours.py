"""Notices programs that open the small files of a directory one after the other: images, a checkout, chunks.

One opened file fetches nothing else: it takes two neighbours, in the order of the listing or sorted, opened within
PATTERN_SECONDS. Then `series.py` fetches the next ones.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from vfs.base.loop_time import loop_time
from vfs.base.tasks import Tasks
from vfs.fetch.fetcher import Fetcher
from vfs.files.ahead.list_ahead import PATTERN_SECONDS
from vfs.files.ahead.order import order_of
from vfs.files.ahead.series import LARGEST, Series
from vfs.files.node import NEVER, Node
from vfs.files.tree import Tree

DIRECTORIES = 64
"""For this many directories, the files opened last are remembered."""
RECENT = 4
"""So many of each: several programs that share the files of a directory open them in any order."""
GUESSES, GUESS_SECONDS = 8, 0.25
"""For the first GUESSES files opened in a directory the order is guessed; then once in GUESS_SECONDS."""


class Neighbours:
    """Notices programs that open neighbours, and fetches the files that they will open next."""

    def __init__(self, tree: Tree, fetcher: Fetcher) -> None:
        self._tree = tree
        self._fetcher = fetcher
        self._last: OrderedDict[Node, Last] = OrderedDict()
        """The files of each directory that were opened last."""
        self._series: list[Series] = []
        self._tasks = Tasks()

    def note(self, node: Node) -> None:
        """A program opened a file."""
        directory = node.parent
        if self._fetcher.remote.metered or directory is None or node.attributes.size > LARGEST:
            return
        now = loop_time()
        last = self._last.pop(directory, None)
        if last is None or now - last.at >= PATTERN_SECONDS:
            last = Last()
        self._last[directory] = last
        if len(self._last) > DIRECTORIES:
            self._last.popitem(last=False)
        before = [one for one in reversed(last.nodes) if one is not node]
        last.at = now
        last.nodes.append(node)
        self._series = [one for one in self._series if one.credit > 0 and now - one.last < PATTERN_SECONDS]
        for takes in (Series.foresaw, Series.takes):
            for series in self._series:
                if takes(series, node):
                    series.opened(node)
                    return
        if before and (last.guesses < GUESSES or now - last.guessed >= GUESS_SECONDS):
            last.guesses, last.guessed = last.guesses + 1, now
            order = next(filter(None, (order_of(one, node) for one in before)), None)
            if order is not None:
                last.guesses = 0
                self._series.append(Series(self._tree, self._fetcher, self._tasks, node, *order))

    async def aclose(self) -> None:
        """Stop fetching."""
        await self._tasks.aclose()


@dataclass(slots=True)
class Last:
    """The files of a directory that were opened last, and when; guesses without result, and when the last was made."""

    nodes: deque[Node] = field(default_factory=lambda: deque(maxlen=RECENT))
    at: float = NEVER
    guesses: int = 0
    guessed: float = NEVER
