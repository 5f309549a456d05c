"""One program that opens small files one after the other, and the files fetched ahead of it.

First a few files are fetched, and more with each correct guess, always within the remote's bound on speculative reads
(`spare`). Files that the program skips reduce the credit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from vfs.base.loop_time import loop_time
from vfs.base.tasks import Tasks
from vfs.fetch.fetcher import SINGLE_READ, Fetcher
from vfs.files.ahead.order import behind, below, directories, files, later, order_of, row_of, suffix_of
from vfs.files.node import NEVER, Kind, Node, common
from vfs.files.tree import Tree

LARGEST = 4 << 20
"""Bytes of a file that counts as small."""
EACH = 4 << 10
"""What the requests for one file cost, in bytes of credit."""
FIRST = 256 << 10
"""Bytes fetched ahead at first."""
MOST = 16 << 20
"""Bytes fetched ahead at most, so that they are still in memory when they are read."""
AT_ONCE = 64
"""Files opened and read, or directories listed, at a time."""
LISTED_AT_ONCE = 16
"""Directories listed ahead in one step."""
LOOKED_AT_ONCE = 1000
"""Names looked at in one step of the loop."""
PASSED_SECONDS = 1.0
"""Seconds after which a skipped file counts as a wrong guess; until then another thread of the program may open it."""
TURN = FIRST // 16
"""What a wrong guess costs, in bytes of credit."""


class Series:
    """Fetches ahead of one program, which has come to the file `at`. `by_name`: in sorted order, else as listed.

    `suffix`: files of this suffix only; None: all.
    """

    def __init__(
        self, tree: Tree, fetcher: Fetcher, tasks: Tasks, at: Node, by_name: bool, suffix: bytes | None
    ) -> None:
        assert at.parent is not None
        self._tree = tree
        self._fetcher = fetcher
        self._tasks = tasks
        self._by_name = by_name
        self._suffix = suffix
        self._top = at.parent
        """The directory that all opened files are below."""
        self._deep = False
        """Whether files of more than one directory were opened."""
        self._at = at
        self.last = loop_time()
        """When the program last opened a file."""
        self.credit = FIRST
        """Bytes that may be ahead: each correct guess adds to them, each wrong one takes from them."""
        self._ahead: dict[Node, int] = {}
        """Files fetched and not opened yet, in the expected order, with the cost of each."""
        self._passed: dict[Node, tuple[int, float]] = {}
        """Files fetched and skipped: the cost of each, and when a later one was opened."""
        self._cost = 0
        """The cost of `_ahead` and `_passed` together."""
        self._listed: dict[Node, float] = {}
        """When a directory was last listed for this."""
        self._listing = False
        self._room = asyncio.Semaphore(AT_ONCE)
        self._start(at)
        self._go_on()

    def foresaw(self, node: Node) -> bool:
        """Whether the file was fetched for this program."""
        return node in self._ahead or node in self._passed

    def takes(self, node: Node) -> bool:
        """Whether an unexpected file belongs to this program: it is in the same directory, below the directories that the
        program goes through, or anywhere once all expected files are opened."""
        here = self._top in node.ancestors() if self._deep else node.parent is self._at.parent
        return here or (not self._ahead and self._next is None)

    def opened(self, node: Node) -> None:
        """The program opened a file."""
        self.last = now = loop_time()
        if not self.foresaw(node) and node.content is not None and node.content.held:
            return  # its bytes were here before
        passed = self._passed.pop(node, None)
        if passed is not None:
            self._right(passed[0])
        elif node in self._ahead:
            self._pass(node, now)
            self._right(self._ahead.pop(node))
        else:
            self._turn(node, now)
        self._at = node
        self._write_off(now)
        self._go_on()

    def _turn(self, node: Node, now: float) -> None:
        """Go on from a file that was not expected."""
        assert node.parent is not None
        self.credit -= TURN
        if self._top not in node.ancestors():
            self._top = common([self._top, node.parent])
        self._deep |= node.parent is not self._at.parent
        order = order_of(self._at, node)
        if order is not None:
            self._by_name = order[0]
        if self._suffix not in (None, suffix_of(node)):
            self._suffix = None
        self._pass(None, now)
        self._start(node)

    def _start(self, node: Node) -> None:
        self._following = self._after(node)
        self._next = next(self._following, None)

    def _pass(self, node: Node | None, now: float) -> None:
        """The files expected before `node` are skipped; all of them if it is None."""
        for one in list(self._ahead):
            if one is node:
                break
            self._passed[one] = self._ahead.pop(one), now

    def _right(self, cost: int) -> None:
        self._cost -= cost
        self.credit = min(self.credit + cost, MOST)

    def _write_off(self, now: float) -> None:
        """Files skipped PASSED_SECONDS ago were wrong guesses."""
        while self._passed:
            node, (cost, when) = next(iter(self._passed.items()))
            if now - when < PASSED_SECONDS:
                break
            del self._passed[node]
            self._cost -= cost
            self.credit -= cost

    # --- fetching ---------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Fetch what comes next, as far as the credit goes."""
        most = min(self.credit, self._fetcher.remote.spare)
        for _ in range(LOOKED_AT_ONCE):
            node = self._next
            if node is None or self._listing or self._tree.requests.silent():
                return
            directory = node.parent if node.kind is Kind.FILE else node
            if directory is not None and self._unlisted(node, directory):
                self._listing = True
                self._tasks.spawn(self._list(directory)).add_done_callback(self._went_on)
                return
            if node.kind is Kind.FILE and self._wanted(node):
                cost = node.attributes.size + EACH
                if self._cost + cost > most:
                    return
                self._cost += cost
                self._ahead[node] = cost
                self._tasks.spawn(self._fetch(node))
            self._next = next(self._following, None)

    def _unlisted(self, node: Node, directory: Node) -> bool:
        """Whether a directory has to be listed first: its files' attributes are too old, or it never was. Once for each
        file that the program opens, since the server may take longer to list it than an answer stays fresh."""
        if self._tree.names.listed(directory) or directory.large or node.content is not None:
            return False
        if node.kind is Kind.FILE and self._tree.names.fresh(node):
            return False
        listed = self._listed.get(directory, NEVER)
        return listed < self.last and loop_time() - listed >= self._tree.names.ttl

    def _wanted(self, node: Node) -> bool:
        """Whether to fetch a file: a small one without a cached byte, which the server has just said to be a file.

        A file that is being written is fetched when a program opens it.
        """
        size = node.attributes.size
        return (
            node.content is None
            and 0 < size <= LARGEST
            and (node.settled or size <= SINGLE_READ)
            and self._suffix in (None, suffix_of(node))
            and self._tree.names.fresh(node)
        )

    async def _fetch(self, node: Node) -> None:
        async with self._room:
            content = await self._tree.versions.open_ahead(node)
            if content is None:
                return
            self._fetcher.ahead(self, content, [(0, content.version.size)])
            jobs = [job.done for jobs in content.jobs.values() for job in jobs]
            await asyncio.gather(*map(asyncio.shield, jobs), return_exceptions=True)
            if not content.readers:
                self._fetcher.handles.reopen(content)  # the server's handle is not needed any more

    async def _list(self, directory: Node) -> None:
        """List a directory, and have some of those behind it listed."""
        todo = [directory]
        if directory.parent is not None and directory is not self._top:
            beside = later(self._row(directory.parent), directory)
            todo += [one for one in beside if one.kind is Kind.DIRECTORY]
        now = loop_time()
        todo = [one for one in todo[:LISTED_AT_ONCE] if not self._tree.names.listed(one) and not one.large]
        self._listed.update((one, now) for one in todo)
        for other in todo[1:]:
            self._tasks.spawn(self._list_one(other))
        await self._list_one(directory)

    async def _list_one(self, directory: Node) -> None:
        async with self._room:
            await self._tree.list_ahead(directory)

    def _went_on(self, task: asyncio.Task[None]) -> None:
        self._listing = False
        if not task.cancelled():
            self._go_on()

    # --- the order --------------------------------------------------------------------------------------------------

    def _after(self, node: Node) -> Iterator[Node]:
        """The files behind `node` in its directory and, if the program goes through several, those behind it; each
        directory before what is in it."""
        for directory, rest in behind(node, self._top, self._row):
            yield directory
            yield from files(rest)
            for one in directories(rest) if self._deep else ():
                yield from self._through(one)

    def _through(self, top: Node) -> Iterator[Node]:
        for directory in chain((top,), below(top, lambda one: directories(self._row(one)))):
            yield directory
            yield from files(self._row(directory))

    def _row(self, directory: Node) -> list[Node]:
        return row_of(directory, self._by_name)
