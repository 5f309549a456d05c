"""How a pull puts one directory, symlink or file in its place: what was changed here stays, and a kill spoils nothing.

A file is written beside its place, noted in the journal, and renamed; one that has grown gets its tail appended. What a
stopped pull left of a large file stays beside its place, and the next pull goes on with it. On the event loop's thread;
bytes are written by others.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from vfs.base.errors import ChangedHere, InTheWay, Unreachable
from vfs.base.file_version import Version
from vfs.commands import pull_dest
from vfs.commands.pull_dest import LocalEntry, LocalName, PullDirectory
from vfs.commands.pull_journal import Left, Pulled
from vfs.fetch.samples import COMPARE
from vfs.files.read_whole import SMALL, chunks
from vfs.files.reader import Reader, joined

AT_ONCE = 32
"""Files that are being written at a time: each takes two descriptors, and a process may have as few as 256."""


class PullWriter:
    """Writes below `destination`, and into its journal. `overwrite`: also over what was changed here."""

    def __init__(self, destination: PullDirectory, pulled: Pulled, *, overwrite: bool) -> None:
        self._destination = destination
        self._pulled = pulled
        self._overwrite = overwrite
        self._open = asyncio.Semaphore(AT_ONCE)

    def check(self, name: str, found: LocalEntry) -> list[tuple[str, bool]]:
        """What has to be removed for something else to have the name, the innermost first; True: a directory.

        Raises ChangedHere and InTheWay when it may not be removed, OSError.
        """
        if not found.is_directory:
            if not self._overwrite and self._pulled.left(name, found) is None:
                raise ChangedHere
            return [(name, False)]
        gone = [(name, True)]
        for inner, thing in self._destination.below(name):
            if not thing.is_directory and not self._overwrite:
                raise InTheWay("it is a directory here, with files in it; --overwrite replaces it")
            if not thing.is_directory and not self._pulled.knows(inner):
                raise InTheWay(f"it is a directory here, and no pull has put {inner} there; move that away")
            gone.append((inner, thing.is_directory))
        return gone[::-1]

    def directory(self, name: str, mode: int) -> None:
        """Make the directory, unless it is there. Raises as `check`, StateUnusable."""
        with self._destination.place(name) as place:
            found = place.found()
            if found is not None and found.is_directory:
                return
            if found is not None:
                self.check(name, found)
                place.remove()
                self._pulled.forget(name)
            place.make_directory(mode)

    async def symlink(self, name: str, text: str) -> None:
        """Make a symlink whose text is `text`. Raises as `check`, StateUnusable."""
        with self._destination.place(name) as place:
            async with self._beside(place, name, Left(0, 0, "", text=text)) as temporary:
                place.symlink(temporary, text)

    async def file(self, name: str, reader: Reader, *, grow: bool, wrote: Callable[[int], None]) -> None:
        """Put the reader's present version in place, whole; `wrote` is called with the size of each piece written.

        `grow`: append to the file that is there, if it is the beginning. Raises as `check`, as the reader does,
        StateUnusable.
        """
        if not grow and reader.size <= SMALL:
            await reader.read(
                0, reader.size
            )  # many files wait for their bytes at a time, none with a descriptor
        async with self._open:
            version, lineage = reader.content.version, reader.content.lineage.hex()
            done = Left(version.size, version.mtime * 1_000_000_000, lineage)
            with self._destination.place(name) as place:
                if not (grow and await self._grow(place, name, reader, done, wrote)):
                    await self._anew(place, name, reader, done, wrote)

    async def _anew(
        self, place: LocalName, name: str, reader: Reader, done: Left, wrote: Callable[[int], None]
    ) -> None:
        """Write the whole file beside its place."""
        version = reader.content.version
        async with self._beside(place, name, done, version if version.size > SMALL else None) as temporary:
            fd = place.open(temporary, reader.node.attributes.mode)
            try:
                start = min(os.fstat(fd).st_size, version.size)
                await _write(fd, reader, start, version.size, wrote)
                pull_dest.stamp(fd, version)
            finally:
                os.close(fd)

    async def _grow(
        self, place: LocalName, name: str, reader: Reader, done: Left, wrote: Callable[[int], None]
    ) -> bool:
        """Append the missing bytes; False if the file here is not the beginning of the version."""
        version, journal = reader.content.version, self._pulled
        found = place.found()
        if found is None or not found.is_file:
            return False
        fd = place.open()
        try:
            found = LocalEntry(os.fstat(fd))
            left = journal.left(name, found)
            if left is None:
                return False
            start = left.size if left.growing_to is not None else found.stat.st_size
            if start > version.size:
                return False
            if left.lineage != done.lineage and not await _begins_with(reader, fd, start):
                return False
            journal.note(name, Left(start, 0, done.lineage, growing_to=version.size))
            await _write(fd, reader, start, version.size, wrote)
            pull_dest.stamp(fd, version)
        finally:
            os.close(fd)
        journal.settle(name, done)
        return True

    @asynccontextmanager
    async def _beside(
        self, place: LocalName, name: str, left: Left, version: Version | None = None
    ) -> AsyncIterator[str]:
        """A name to make something under; with the end of the block it takes its place, and is as `left` says.

        `version`: of a file that the next pull may go on with, if this one is stopped; what one left of it is there.
        """
        journal = self._pulled
        half = None if version is None else journal.half(name, version)
        full = half or posixpath.join(posixpath.dirname(name), pull_dest.temporary_name())
        temporary = posixpath.basename(full)
        journal.begin(full, name, version)
        stopped = False
        try:
            yield temporary
            await self._make_way(place, name)
            # before the rename, so that a kill between the two leaves nothing that looks changed here
            journal.note(name, left)
            place.put(temporary)
        except (asyncio.CancelledError, Unreachable):
            stopped = version is not None
            raise
        finally:
            if not stopped:
                place.discard(temporary)
                journal.over(full)
        journal.settle(name, left)

    async def _make_way(self, place: LocalName, name: str) -> None:
        """Check that the present entry may be replaced. Remove a directory: nothing can be renamed over it."""
        found = place.found()
        if found is None:
            return
        if not found.is_directory:
            self.check(name, found)
            return
        for inner, directory in await _in_thread(self.check, name, found):
            self._destination.remove(inner, directory=directory)
            self._pulled.forget(inner)


async def _begins_with(reader: Reader, fd: int, size: int) -> bool:
    """Whether the reader's version begins with the `size` bytes of a file here, as far as its ends tell."""
    for start, end in ((0, min(COMPARE, size)), (max(0, size - COMPARE), size)):
        pieces = await reader.read(start, end - start)
        if os.pread(fd, end - start, start) != joined(pieces):
            return False
    return True


async def _write(fd: int, reader: Reader, start: int, end: int, wrote: Callable[[int], None]) -> None:
    async for pieces in chunks(reader, start, end):
        views = [memoryview(block.view(a, b)) for block, a, b in pieces]
        await _in_thread(pull_dest.write, fd, start, views)
        count = sum(len(view) for view in views)
        start += count
        wrote(count)


async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """As `asyncio.to_thread`, and when this is cancelled, the work has ended: its descriptor may be closed then."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # marked as seen
        raise
