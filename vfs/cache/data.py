"""Data files: one sparse file for each version lineage, every block at its own offset.

`blocks/A/B/LINEAGE`, where A and B are the first digits of the lineage in hex. A file says nothing of what is valid in
it: the database does, with a checksum for each block (`groups.py`). The bytes of a lineage never change, so several
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xxhash import xxh3_64

from vfs.cache.block import BLOCK, Block, Extent, little
from vfs.cache.groups import Damaged, Gone, Place, Stored

log = logging.getLogger(__name__)

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_WHOLE = ((0, BLOCK),)
_STRANGE = (
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.ESPIPE,
    errno.EINVAL,
)
"""What reading a file gives that is not the one that we wrote."""
_PUNCH_HOLE = 3
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (Linux, fallocate(2))."""

Ranges = tuple[int, Block, tuple[Extent, ...]]
"""The index of a block, the block, and which ranges of it are meant."""


def _find_fallocate() -> Callable[..., int] | None:
    if not hasattr(os, "O_DIRECT"):  # macOS
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


_fallocate = _find_fallocate()


def checksum(block: Block, extents: Iterable[Extent]) -> int:
    """XXH3-64 of the bytes in these ranges."""
    reckoned = xxh3_64()
    for first, last in extents:
        reckoned.update(block.view(first, last))
    return reckoned.intdigest()


class DataFiles:
    """Reads and writes the data files below one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "blocks"
        self._direct = _O_DIRECT
        self.punches = _fallocate is not None
        """Whether a part of a file can be given back: until the file system refused it once."""

    def path(self, lineage: bytes) -> Path:
        name = lineage.hex()
        return self.directory / name[0] / name[1] / name

    def write(self, lineage: bytes, blocks: Iterable[Ranges]) -> None:
        """Write blocks, those beside each other in one go. Raises OSError with the first that cannot be."""
        for run in _runs(blocks):
            whole = run[0][2] == _WHOLE
            with self._opened(lineage, os.O_RDWR | os.O_CREAT, direct=whole) as fd:
                index, block, extents = run[0]
                if whole:
                    _transfer(os.pwritev, fd, [block.view(0, BLOCK) for _, block, _ in run], index * BLOCK)
                else:
                    for first, last in extents:
                        _transfer(os.pwritev, fd, [block.view(first, last)], index * BLOCK + first)

    def read(self, place: Place, stored: Stored) -> Block:
        """A block as it was stored. Raises `Gone` when it is not there, `Damaged` when it is not the same in every
        byte, OSError when it cannot be read."""
        lineage, index = place
        block = Block(stored.capacity, sparse=little(stored.valid, stored.capacity))
        try:
            with self._opened(lineage, os.O_RDONLY, direct=stored.extents == _WHOLE) as fd:
                for first, last in stored.extents:
                    if not _transfer(os.preadv, fd, [block.view(first, last)], index * BLOCK + first):
                        raise Damaged("the file ends early")
                if checksum(block, stored.extents) != stored.checksum:
                    if _hole_in(fd, index * BLOCK, stored.extents):
                        raise Gone("a part of the file is gone")
                    raise Damaged("the checksum is wrong")
        except FileNotFoundError:
            raise Gone("the file is gone") from None
        except OSError as error:
            if error.errno in _STRANGE:
                raise Damaged(str(error)) from error
            raise
        for first, last in stored.extents:
            block.mark(first, last)
        return block

    def punch(self, lineage: bytes, start: int, count: int) -> bool:
        """Give back the room of `count` bytes at `start`, both in pages; whether that could be done."""
        if not self.punches or _fallocate is None:
            return False
        try:
            with self._opened(lineage, os.O_RDWR) as fd:
                if _fallocate(fd, _PUNCH_HOLE, start, count) == 0:
                    return True
        except OSError:
            return True  # nothing of ours is there
        if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            log.info("%s takes no holes: files make way as a whole", self.directory)
            self.punches = False
        return False

    def remove(self, lineage: bytes) -> None:
        """Delete a lineage's file, if it is there. Raises nothing: what cannot be deleted now is swept later."""
        delete(self.path(lineage))

    @contextmanager
    def _opened(self, lineage: bytes, flags: int, *, direct: bool = False) -> Iterator[int]:
        """A data file, past the page cache with `direct`; its directories are made with O_CREAT. Raises OSError."""
        path = self.path(lineage)
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nothing but a regular file may hold us up
        past, made = self._direct if direct else 0, False
        while True:
            try:
                fd = os.open(path, flags | past, 0o600)
                break
            except OSError as error:
                if error.errno == errno.EINVAL and past:
                    self._direct = past = 0  # this file system has no such thing
                elif error.errno == errno.ENOENT and flags & os.O_CREAT and not made:
                    made = True
                    for place in (self.directory, path.parent.parent, path.parent):
                        place.mkdir(mode=0o700, exist_ok=True)
                else:
                    raise
        try:
            yield fd
        finally:
            os.close(fd)


def delete(path: Path) -> None:
    """Delete a file, if it is there; what cannot be deleted stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("cannot delete %s: %s", path, error)


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


def _hole_in(fd: int, at: int, extents: Iterable[Extent]) -> bool:
    """Whether some of these ranges, counted from `at`, have no room on the disk."""
    if not hasattr(os, "SEEK_HOLE"):
        return False
    try:
        return any(os.lseek(fd, at + first, os.SEEK_HOLE) < at + last for first, last in extents)
    except OSError:
        return True  # beyond the end


def _transfer(
    call: Callable[[int, list[memoryview], int], int], fd: int, views: list[memoryview], at: int
) -> bool:
    """Read or write all of `views` at `at`; False where the file ends before. Raises OSError."""
    while views:
        try:
            count = call(fd, views, at)
        except OSError as error:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & _O_DIRECT:
                raise
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~_O_DIRECT)  # not such memory, or not at such a place
            continue
        if not count:
            return False
        at += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]
    return True
