"""One walk, and the directories that are listed ahead of it: as many as it will open while their listings are fresh.

Owned by the event loop's thread. The order is a guess: depth first, as the server lists the names, or sorted. The distance
is measured: as many directories as the walker opened in the last half of the TTL. No directory is listed ahead twice; for
a walker whose order cannot be guessed, none is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator

from vfs.base.errors import ArtisyncError
from vfs.base.tasks import Tasks
from vfs.files.node import NEVER, Kind, Node
from vfs.files.tree import Tree

log = logging.getLogger(__name__)

MOST_AHEAD = 512
"""Directories listed and not opened yet; OpenSSH allows a thousand handles."""
FIRST = 32
"""Directories ahead at first: one more for each that is opened in time, half as many when one is not."""
MOST_PASSED = 20_000
"""Directories of one walk remembered as passed."""
SHORTEST = 1e-4
"""The least duration of a walk that is reckoned with, in seconds."""
TRIALS = 16
"""Listings that may go unused at first; later a quarter of those that were used."""
GUESSES = 8
"""Steps of the walker that are compared with the sorted order, to guess it."""


class Crawl:
    """Lists ahead of a walker below `top` that has come to `at`; `pace`: seconds that it took for the directory before."""

    def __init__(self, tree: Tree, top: Node, at: Node, pace: float) -> None:
        self.top = top
        self.last = _now()
        """When the walker last opened a directory."""
        self._tree = tree
        self._at = at
        self._sorted = False
        self._guesses = 0
        self._ahead: dict[Node, float] = {}
        """Directories listed ahead and not opened yet, with the time of the request; oldest first."""
        self._seen: set[Node] = {at}
        """Opened in this round."""
        self._passed: set[Node] = {at}
        """Opened, or listed ahead."""
        self._round = self.last
        """When the walker began, or began again."""
        self._began = self.last - pace
        self._times = deque([self.last], maxlen=MOST_AHEAD)
        """When it opened a directory, over half of the TTL."""
        self._rows: dict[Node, list[Node]] = {}
        """The directories in a directory, in the walker's order."""
        self._places: dict[Node, int] = {}
        """Where each is in its row."""
        self._reach = FIRST
        self._opened = self._missed = 0
        self._tasks = Tasks()
        self._go_on()

    def opened(self, directory: Node) -> None:
        """The walker opened a directory."""
        self.last = now = _now()
        self._times.append(now)
        if directory in self._seen and now - self._round >= self._tree.names.ttl:
            self._round, self._seen, self._passed = now, set(), set(self._ahead)
            self._rows.clear()
            self._places.clear()
        if self._ahead.pop(directory, None) is not None:
            self._opened += 1
            self._reach = min(self._reach + 1, MOST_AHEAD)
        elif directory not in self._passed:
            self._guess_order(directory)
        self._seen.add(directory)
        self._passed.add(directory)
        self._at = directory
        self._go_on()

    def _go_on(self) -> None:
        now = _now()
        self._miss(now)
        most = self._most()
        room = most - len(self._ahead)
        if room < max(1, most // 4) or self._tree.requests.silent():
            return
        for directory in self._following():
            if directory in self._passed or directory.large:
                continue
            if len(self._passed) > MOST_PASSED:
                break
            self._passed.add(directory)
            if self._tree.names.listed(directory):
                continue
            self._ahead[directory] = now
            self._tasks.spawn(self._list(directory)).add_done_callback(self._listed)
            room -= 1
            if not room:
                break

    def _most(self) -> int:
        """Directories that may be ahead."""
        if self._missed > TRIALS + self._opened // 4:
            return 0
        now, while_fresh = _now(), self._tree.names.ttl / 2
        while self._times and self._times[0] < now - while_fresh:
            self._times.popleft()
        passed = len(self._times) * max(1.0, while_fresh / max(now - self._began, SHORTEST))
        return int(min(self._reach, passed))

    def _miss(self, now: float) -> None:
        """Drop what was listed ahead and expired before the walker opened it."""
        before = len(self._ahead)
        while self._ahead:
            directory = next(iter(self._ahead))
            if now - self._ahead[directory] < self._tree.names.ttl:
                break
            del self._ahead[directory]
        if missed := before - len(self._ahead):
            self._missed += missed
            self._reach = max(1, self._reach // 2)

    async def _list(self, directory: Node) -> None:
        try:
            await self._tree.list_ahead(directory)
        except (ArtisyncError, TimeoutError) as error:
            log.debug("cannot list %r ahead: %s", directory.path, error)
            self._ahead.pop(directory, None)

    def _listed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._go_on()

    # --- the order ----------------------------------------------------------------------------------------------

    def _following(self) -> Iterator[Node]:
        """The directories behind the walker's, in the order in which it will come to them."""
        node = self._at
        yield from self._below(node)
        while node is not self.top and node.parent is not None:
            row = self._row(node.parent)
            for i in range(self._places.get(node, len(row)) + 1, len(row)):
                yield row[i]
                yield from self._below(row[i])
            node = node.parent

    def _below(self, directory: Node) -> Iterator[Node]:
        rows = [iter(self._row(directory))]
        while rows:
            child = next(rows[-1], None)
            if child is None:
                rows.pop()
            else:
                yield child
                rows.append(iter(self._row(child)))

    def _row(self, directory: Node) -> list[Node]:
        row = self._rows.get(directory)
        if row is None:
            if directory.listed == NEVER:
                return []
            row = [
                child
                for child in directory.children.values()
                if child.kind is Kind.DIRECTORY and not child.follow
            ]
            if self._sorted:
                row.sort(key=lambda child: child.name)
            self._rows[directory] = row
            for place, child in enumerate(row):
                self._places[child] = place
        return row

    def _guess_order(self, directory: Node) -> None:
        """The walker came to a directory that was not expected: perhaps it sorts."""
        before = self._at
        if self._guesses >= GUESSES or directory.parent is None or before.parent is not directory.parent:
            return
        self._guesses += 1
        names = [child.name for child in self._row(directory.parent) if child.name > before.name]
        if not self._sorted and names and min(names) == directory.name:
            self._sorted = True
            self._passed = set(self._seen)  # what was listed in the other order comes too late
            self._ahead.clear()
            self._rows.clear()
            self._places.clear()

    async def aclose(self) -> None:
        """End what is being listed."""
        await self._tasks.aclose()


def _now() -> float:
    return asyncio.get_running_loop().time()
