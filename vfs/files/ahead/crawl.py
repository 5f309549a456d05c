"""One walk, and the directories that are listed ahead of it: as many as it will open while their listings are fresh.

The order is guessed: depth first, as the server lists the names, or sorted. The distance is measured: as many directories as
the walker opened in the last half of the TTL, and no more than it could open in that time without waiting for listings. A
directory that was not listed yet counts for as many as it probably holds. No directory is listed ahead twice. If the order
cannot be guessed, none is listed ahead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from vfs.base.loop_time import loop_time
from vfs.base.tasks import Tasks
from vfs.files.ahead.order import behind, below, directories, later, order_of, row_of
from vfs.files.node import NEVER, Node
from vfs.files.tree import Tree

MOST_AHEAD = 512
"""Directories listed and not opened yet; OpenSSH allows a thousand handles."""
FIRST = 32
"""Directories ahead however few were opened lately."""
MOST_PASSED = 20_000
"""Directories of one walk remembered as passed."""
SHORTEST = 1e-4
"""The shortest time between two directories that counts, in seconds."""
GUESSES = 8
"""Steps of the walker that are compared with the sorted order, to guess it."""


class Crawl:
    """Lists ahead of a walker below `top` that has come to `at`; `pace`: seconds that it took for the directory before."""

    def __init__(self, tree: Tree, top: Node, at: Node, pace: float) -> None:
        self.top = top
        self.last = loop_time()
        """When the walker last opened a directory."""
        self._tree = tree
        self._at = at
        self._sorted = False
        self._guesses = 0
        self._ahead: dict[Node, float] = {}
        """Directories listed ahead and not opened while that was fresh, with the time of the request."""
        self._passed: set[Node] = {at}
        """Opened in this round, listed ahead, or passed over since the listing was fresh."""
        self._round = self.last
        """When the walker began, or began again."""
        self._pace = pace
        """Seconds that it takes for a directory, smoothed, without those that it waits for the listing."""
        self._rows: dict[Node, list[Node]] = {}
        """The directories in a directory, in the walker's order."""
        self._held: dict[Node, float] = {}
        """How many directories are in one of a directory's, smoothed."""
        self._times: deque[float] = deque(maxlen=MOST_AHEAD)
        """When it opened the directories of the last half of the TTL."""
        self._opened = 0
        """Directories that were listed ahead, and opened while that was fresh."""
        self._steps = 0
        """Directories that the walker opened since the last look ahead."""
        self._looking = False
        self._tasks = Tasks()
        self._look_ahead()

    def opened(self, directory: Node, pace: float) -> None:
        """The walker opened a directory, `pace` seconds after it was given the one before."""
        self.last = now = loop_time()
        self._pace += (pace - self._pace) / 16
        self._times.append(now)
        again = directory in self._passed and directory not in self._ahead
        if again and now - self._round >= self._tree.names.ttl:
            self._round, self._passed = now, set(self._ahead)
            self._rows.clear()
        if now - self._ahead.get(directory, NEVER) < self._tree.names.ttl:
            del self._ahead[directory]
            self._opened += 1
        elif directory not in self._passed:
            self._guess_order(directory)
        self._passed.add(directory)
        self._at = directory
        self._steps += 1
        if self._steps > self._most() // 8:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Look for directories to list, once in this step of the loop."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._looking = False
        self._steps = 0
        if self._tree.requests.silent():
            return
        now, most = loop_time(), self._most()
        distance, unused = 0.0, 1.5 * most + self._opened // 4
        for directory in self._following():
            if distance >= most or len(self._ahead) >= unused or len(self._passed) > MOST_PASSED:
                break
            distance += 1
            if directory not in self._rows and directory.parent is not None:
                distance += self._held.get(directory.parent, 0)  # most likely as many are in it, too
            if directory in self._passed or directory.large:
                continue
            self._passed.add(directory)
            if not directory.stale and now - directory.listed < self._tree.names.ttl / 2:
                continue
            self._ahead[directory] = now
            self._tasks.spawn(self._list(directory))

    def _most(self) -> int:
        """How many directories ahead of the walker may be listed."""
        half = self._tree.names.ttl / 2
        while self._times and self._times[0] < loop_time() - half:
            self._times.popleft()
        return int(min(max(FIRST, len(self._times)), half / max(self._pace, SHORTEST)))

    async def _list(self, directory: Node) -> None:
        await self._tree.list_ahead(directory)
        if self._row(directory):
            self._look_ahead()

    # --- the order ----------------------------------------------------------------------------------------------

    def _following(self) -> Iterator[Node]:
        """The directories behind the walker's, in the order in which it will come to them."""
        yield from below(self._at, self._row)
        for _, rest in behind(self._at, self.top, self._row):
            for one in rest:
                yield one
                yield from below(one, self._row)

    def _row(self, directory: Node) -> list[Node]:
        row = self._rows.get(directory)
        if row is None:
            if directory.listed == NEVER:
                return []
            self._rows[directory] = row = directories(row_of(directory, self._sorted))
            if directory.parent is not None:
                held = self._held.get(directory.parent, len(row))
                self._held[directory.parent] = held + (len(row) - held) / 16
        return row

    def _guess_order(self, directory: Node) -> None:
        """The walker opened an unexpected directory: perhaps it goes in sorted order."""
        way = (self._at, *self._at.ancestors())
        before = next((one for one in way if one.parent is directory.parent), None)
        if self._sorted or self._guesses >= GUESSES or before is None:
            return
        self._guesses += 1
        order = order_of(before, directory)
        as_listed = later(self._row(before.parent or before), before)[:1] == [directory]
        if order is not None and order[0] and not as_listed:
            self._sorted = True
            self._passed.clear()  # what was listed in the other order comes too late
            self._ahead.clear()
            self._rows.clear()

    async def aclose(self) -> None:
        """Cancel the listings in flight."""
        await self._tasks.aclose()
