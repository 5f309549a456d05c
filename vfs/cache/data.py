"""Data files: one sparse file for each version lineage, every block at its own offset.

`blocks/A/B/LINEAGE`, where A and B are the first digits of the lineage in hex. A file says nothing of what is valid in
it: the database does, with a checksum for each block (`rows.py`). The bytes of a lineage never change, so several
processes may write one block at once.

Whole blocks go past the page cache (O_DIRECT) where the file system takes that: we and the kernel's FUSE cache hold
them already, and it saves a copy. All else goes through it. Thread-safety: any thread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vfs.cache.block import BLOCK, Block, Extent, checksum, little
from vfs.cache.buffers import PAGE, libc
from vfs.cache.rows import Damaged, Stored

log = logging.getLogger(__name__)

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_WHOLE = ((0, BLOCK),)
_OUR_TROUBLE = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing of the file that is opened: any other error means that it is not the one that we wrote."""
_PUNCH_HOLE = 3
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (Linux, fallocate(2))."""

Ranges = tuple[int, Block, tuple[Extent, ...]]
"""The index of a block, the block, and which ranges of it are meant."""


_fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
"""None on macOS."""
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class DataFiles:
    """Reads and writes the data files below one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "blocks"
        self.punches = _takes_holes(directory)
        """Whether a part of a file can be given back."""
        if not self.punches:
            log.info("%s takes no holes: files make way as a whole", directory)

    def path(self, lineage: bytes) -> Path:
        name = lineage.hex()
        return self.directory / name[0] / name[1] / name

    def write(self, lineage: bytes, blocks: Iterable[Ranges]) -> None:
        """Write blocks. Raises OSError with the first that cannot be."""
        self._transfer(os.pwritev, os.O_RDWR | os.O_CREAT, lineage, blocks)

    def read(self, lineage: bytes, wanted: Iterable[tuple[int, Stored]]) -> list[Block | Damaged]:
        """Blocks, by index, as they were stored; `Damaged` in place of one that is not the same in every byte. Raises OSError
        when the file cannot be read."""
        blocks = [
            (index, Block(stored.capacity, sparse=little(stored.valid, stored.capacity)), stored)
            for index, stored in wanted
        ]
        try:
            self._transfer(
                os.preadv, os.O_RDONLY, lineage, [(i, block, one.extents) for i, block, one in blocks]
            )
        except OSError as error:
            if error.errno in _OUR_TROUBLE:
                raise
            return [Damaged(error.strerror or str(error))] * len(blocks)
        return [_checked(block, stored) for _, block, stored in blocks]

    def _transfer(
        self,
        call: Callable[[int, list[memoryview], int], int],
        flags: int,
        lineage: bytes,
        blocks: Iterable[Ranges],
    ) -> None:
        """Read or write blocks, whole ones that lie beside each other in one go. Raises OSError."""
        with self._opened(lineage, flags) as fd:
            for run in _runs(blocks):
                index, block, extents = run[0]
                whole = extents == _WHOLE
                _pass_cache(fd, whole)
                if whole:
                    _transfer(call, fd, [block.view(0, BLOCK) for _, block, _ in run], index * BLOCK)
                else:
                    for first, last in extents:
                        _transfer(call, fd, [block.view(first, last)], index * BLOCK + first)

    def punch(self, lineage: bytes, indexes: Iterable[int]) -> None:
        """Give back the room of blocks, as far as they are there. Raises OSError when the file cannot be opened."""
        try:
            with self._opened(lineage, os.O_RDWR) as fd:
                for index in indexes:
                    _punch(fd, index * BLOCK, BLOCK)
        except OSError as error:
            if error.errno in _OUR_TROUBLE:
                raise

    def remove(self, lineage: bytes) -> None:
        """Delete a lineage's file, if it is there. Raises nothing: what cannot be deleted now is swept later."""
        delete(self.path(lineage))

    @contextmanager
    def _opened(self, lineage: bytes, flags: int) -> Iterator[int]:
        """A data file; its directories are made with O_CREAT. Raises OSError."""
        path = self.path(lineage)
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nothing but a regular file may hold us up
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            for place in (self.directory, path.parent.parent, path.parent):
                place.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)


def delete(path: Path) -> None:
    """Delete a file, if it is there; what cannot be deleted stays. Its bytes go at once, though a process may be reading it."""
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("cannot delete %s: %s", path, error)


def _takes_holes(directory: Path) -> bool:
    """Whether files there can give back a part of themselves, as far as can be seen."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.truncate(PAGE)
            return _punch(file.fileno(), 0, PAGE)
    except OSError:
        return _fallocate is not None


def _punch(fd: int, start: int, count: int) -> bool:
    return _fallocate is not None and _fallocate(fd, _PUNCH_HOLE, start, count) == 0


def _checked(block: Block, stored: Stored) -> Block | Damaged:
    """The block, if what was read is what was stored; where the file ended early it is not."""
    if checksum(block, stored.extents) != stored.checksum:
        return Damaged("the checksum is wrong")
    for first, last in stored.extents:
        block.mark(first, last)
    return block


def _runs(blocks: Iterable[Ranges]) -> Iterator[list[Ranges]]:
    """Whole blocks in as long runs as they lie beside each other, all others alone."""
    run: list[Ranges] = []
    for one in blocks:
        if run and not (run[-1][2] == one[2] == _WHOLE and one[0] == run[-1][0] + 1):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _pass_cache(fd: int, past: bool) -> bool:
    """Have a file read and written past the page cache, or not any more; False: it was that way before, or takes no other."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    wanted = flags | _O_DIRECT if past else flags & ~_O_DIRECT
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, wanted)
    except OSError:
        return False
    return wanted != flags


def _transfer(
    call: Callable[[int, list[memoryview], int], int], fd: int, views: list[memoryview], at: int
) -> None:
    """Read or write all of `views` at `at`, or up to the end of the file. Raises OSError."""
    while views:
        try:
            count = call(fd, views, at)
        except OSError as error:
            if error.errno != errno.EINVAL or not _pass_cache(fd, False):
                raise
            continue  # not such memory, or not at such a place
        if not count:
            return
        at += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]
