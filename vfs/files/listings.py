"""Asks the server for a directory's listing, and enters it into the namespace, a large one in slices.

The directory counts as listed only once the whole listing is entered; then the names that were neither in it nor seen since it
was asked for are removed.
"""

from __future__ import annotations

import logging

from vfs.base.each import each
from vfs.base.errors import ListingTooLong, NoSuchPath, ServerFailure
from vfs.base.loop_time import loop_time
from vfs.base.slices import slices
from vfs.files import symlinks
from vfs.files.last_known import LastKnown
from vfs.files.namespace import Namespace, join
from vfs.files.node import NEVER, Node
from vfs.files.resolve import Resolver
from vfs.remote import api
from vfs.remote.api import DirEntry, Remote

log = logging.getLogger(__name__)

SYMLINKS_AT_ONCE = 256
"""Symlinks of one directory that are asked about at a time."""


class Listings:
    """The listings of one tree; the resolver tells what symlinks in them are shown as."""

    def __init__(self, names: Namespace, remote: Remote, resolver: Resolver, last_known: LastKnown) -> None:
        self._names = names
        self._remote = remote
        self._resolver = resolver
        self._last_known = last_known

    async def listing(self, directory: Node) -> None:
        """Ask for all names of a directory, and what they stand for.

        Raises NoSuchPath, ListingTooLong, ServerFailure, Unreachable.
        """
        at = loop_time()
        try:
            entries = await self._remote.scandir(directory.path, lambda: directory.waiters > 0)
        except ListingTooLong:
            directory.large = True
            directory.slow = directory.waiters > 0
            raise
        except NoSuchPath:
            if directory.parent is not None and directory.checked <= at:
                self._names.remove(directory)
            raise
        directory.large = len(entries) > api.MOST_AHEAD
        await self._take(directory, entries, at)
        if not directory.stale:
            if not entries and directory.listed == NEVER:
                directory.changed = True  # to be empty is to be remembered, too
            directory.listed = at
            directory.slow = not self._names.listed(directory)
            directory.asked.clear()
            directory.answered = 0
            await self._last_known.remember(directory)

    async def _take(self, directory: Node, entries: list[DirEntry], at: float) -> None:
        names: set[bytes] = set()
        linked: list[DirEntry] = []
        async for some in slices(entries):
            if directory.stale:
                return
            for entry in some:
                names.add(entry.name)
                if entry.attributes.is_symlink:
                    linked.append(entry)
                else:
                    self._names.observe(directory, entry.name, entry.attributes, at)
        if linked:
            await each(linked, lambda entry: self._follow(directory, entry, at), SYMLINKS_AT_ONCE)
        if directory.children.keys() <= names:
            return
        async for children in slices(list(directory.children.values())):
            for child in children:
                if child.name not in names and child.checked <= at and not child.stale:
                    self._names.remove(child)

    async def _follow(self, directory: Node, entry: DirEntry, at: float) -> None:
        """Ask what a symlink is shown as. Raises Unreachable."""
        if directory.stale:
            return
        try:
            await self._resolver.symlink(directory, entry.name, entry.attributes, at)
        except ServerFailure as error:
            log.debug("a symlink cannot be followed: %s", error)
            target = symlinks.nowhere(self._names.root.path, join(directory.path, entry.name), b"unreadable")
            self._names.observe(directory, entry.name, entry.attributes, NEVER, target=target)
