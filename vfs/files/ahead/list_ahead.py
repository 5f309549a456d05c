"""Lists directories before a program asks: the next ones of a walk, and again those in which it looks names up.

Opening one directory lists no other: it takes two children of a directory, opened within PATTERN_SECONDS. A walk ends when no
directory is opened for as long. A listing is renewed if it answered several lookups, or when a second name of the directory
has to be asked for.
"""

from __future__ import annotations

import asyncio

from vfs.base.loop_time import loop_time
from vfs.files.ahead.crawl import Crawl
from vfs.files.node import Node
from vfs.files.tree import SINGLY, Tree

PATTERN_SECONDS = 5.0
"""Two children of one directory opened within this time are a walk; it ends when none is opened for as long."""
MANY = 1000
RENEWED = 32
"""Directories that are listed again at a time."""
FEW = 256
"""Names in a directory that is listed again though that was in vain the last time."""
AROUND = 2
"""Directories above one that count as around it."""


class ListAhead:
    """The walks through one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._opened: dict[Node, tuple[float, Node]] = {}
        """For each parent: when a child was last opened, and which; that opened longest ago is first."""
        self._crawls: dict[Node, Crawl] = {}
        self._served = 0.0
        """When a program was last given a directory that it opened."""

    def note(self, directory: Node) -> None:
        """A program opens a directory to list it."""
        now = loop_time()
        parent = directory.parent
        if parent is None or self._tree.remote.metered:
            return
        before = self._opened.pop(parent, None)
        self._opened[parent] = now, directory
        if len(self._opened) > MANY:
            del self._opened[next(iter(self._opened))]
        crawls = self._going_on()
        for node in (directory, *reversed(directory.ancestors())):
            if node in crawls:
                crawl = crawls[node]
                crawl.opened(directory, now - max(crawl.last, self._served))
                return
        if before is None or before[1] is directory or now - before[0] > PATTERN_SECONDS:
            return
        # the time that the listing before took is not the program's
        crawls[parent] = Crawl(self._tree, parent, directory, now - max(before[0], self._served))

    def served(self) -> None:
        """A program was given a directory that it opened."""
        self._served = loop_time()

    def renew(self, directory: Node) -> None:
        """A program looks a name up. If the directory's listing answered several lookups, list it again before it is past the
        TTL, with those below it that answered any: git asks for forty names in ten directories, reads the files, and asks again.
        """
        if directory.answered < SINGLY or self._tree.remote.metered or self._tree.requests.silent():
            return
        if loop_time() - directory.listed < self._tree.names.ttl / 2:
            return
        directory.answered = 0
        self._list_again(directory, least=1)
        self._tree.refresh_soon(directory)

    def missed(self, directory: Node, name: bytes) -> None:
        """A name has to be asked for. If another one in the directory was a moment ago, list it again, and the directories
        around it that were listed lately: a program that comes back to one often comes back to all.
        """
        now = loop_time()
        (before, at), directory.missed = directory.missed, (name, now)
        if before == name or now - at >= PATTERN_SECONDS:
            return
        if self._tree.remote.metered or self._tree.requests.silent():
            return
        above = directory.ancestors()
        crawls = self._going_on()
        if any(one in crawls for one in (directory, *above)):
            return  # what is listed ahead of a walk will do
        if len(directory.children) <= FEW:
            directory.in_vain = False  # one that is looked into again is worth it, unlike those around it
        for top in (directory, *above[-AROUND:][::-1]):
            self._list_again(top)

    def _list_again(self, top: Node, least: int = 0) -> None:
        """List a directory and those below it again that were listed lately, and answered at least so many lookups; not if
        that was in vain the last time."""
        now, ttl = loop_time(), self._tree.names.ttl

        def meant(one: Node) -> bool:
            return now - one.listed < PATTERN_SECONDS and not (
                one.in_vain or one.slow or len(one.children) > MANY
            )

        todo = [top] if meant(top) else []
        for one in todo:
            if now - one.listed >= ttl / 2:
                one.in_vain = True
                self._tree.list_again(one)
            below = [child for child in one.children.values() if child.answered >= least and meant(child)]
            todo += below[: RENEWED - len(todo)]

    def _going_on(self) -> dict[Node, Crawl]:
        """The walks that have not ended, by the directory that each is below."""
        since = loop_time() - PATTERN_SECONDS
        self._crawls = {top: crawl for top, crawl in self._crawls.items() if crawl.last > since}
        return self._crawls

    async def aclose(self) -> None:
        """End them."""
        await asyncio.gather(*(crawl.aclose() for crawl in self._crawls.values()))
