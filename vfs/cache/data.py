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
from collections.abc import Callable, Iterable
from pathlib import Path

from xxhash import xxh3_64

from vfs.cache.block import BLOCK, Block, Extent, little
from vfs.cache.groups import Damaged, Gone, Stored

log = logging.getLogger(__name__)

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_BASE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nothing but a regular file may hold us up
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
        self._blocks = directory / "blocks"
        self._direct = _O_DIRECT
        self.punches = _fallocate is not None
        """Whether a part of a file can be given back: until the file system refused it once."""

    def path(self, lineage: bytes) -> Path:
        name = lineage.hex()
        return self._blocks / name[0] / name[1] / name

    def write(self, lineage: bytes, blocks: Iterable[Ranges], done: list[int]) -> None:
        """Write blocks, and note the index of each in `done`. Raises OSError with the first that cannot be."""
        path = self.path(lineage)
        flags = os.O_RDWR | os.O_CREAT | _BASE
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            for place in (self._blocks, path.parent.parent, path.parent):
                place.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        direct = False
        try:
            for index, block, extents in blocks:
                if direct != (whole := extents == ((0, BLOCK),)):
                    direct = self._switch(fd, whole)
                for first, last in extents:
                    _write_all(fd, block.view(first, last), index * BLOCK + first)
                done.append(index)
        finally:
            os.close(fd)

    def read(self, place: tuple[bytes, int], stored: Stored) -> Block:
        """A block as it was stored. Raises `Gone` when it is not there, `Damaged` when it is not the same in every
        byte, OSError when it cannot be read."""
        lineage, index = place
        sparse = little(stored.valid, stored.capacity)
        block = Block(stored.capacity, sparse=sparse)
        direct = self._direct if stored.extents == ((0, BLOCK),) else 0
        try:
            fd = self._open(lineage, direct)
            try:
                for first, last in stored.extents:
                    if not _read_all(fd, block.view(first, last), index * BLOCK + first):
                        raise Damaged("the file ends early")
                if checksum(block, stored.extents) != stored.checksum:
                    if _hole_in(fd, index * BLOCK, stored.extents):
                        raise Gone("a part of the file is gone")
                    raise Damaged("the checksum is wrong")
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise Gone("the file is gone") from None
        except OSError as error:
            if error.errno in _STRANGE:
                raise Damaged(str(error)) from error
            raise
        for first, last in stored.extents:
            block.mark(first, last)
        return block

    def _open(self, lineage: bytes, direct: int) -> int:
        """A data file to read, past the page cache or not. Raises OSError."""
        path, flags = self.path(lineage), os.O_RDONLY | _BASE
        if direct:
            try:
                return os.open(path, flags | direct)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = 0
        return os.open(path, flags)

    def punch(self, lineage: bytes, start: int, count: int) -> bool:
        """Give back the room of `count` bytes at `start`, both in pages; whether that could be done."""
        if not self.punches or _fallocate is None:
            return False
        try:
            fd = os.open(self.path(lineage), os.O_RDWR | _BASE)
        except OSError:
            return True  # nothing of ours is there
        try:
            if _fallocate(fd, _PUNCH_HOLE, start, count) != 0:
                number = ctypes.get_errno()
                if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    log.info("%s takes no holes: files make way as a whole", self._blocks)
                    self.punches = False
                return False
        finally:
            os.close(fd)
        return True

    def remove(self, lineage: bytes) -> None:
        """Delete a lineage's file, if it is there. Raises nothing: what cannot be deleted now is swept later."""
        try:
            os.unlink(self.path(lineage))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.debug("cannot delete %s: %s", self.path(lineage), error)

    def _switch(self, fd: int, direct: bool) -> bool:
        """Go past the page cache, or not; whether it is gone past now."""
        if not self._direct:
            return False
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~_O_DIRECT
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | (_O_DIRECT if direct else 0))
        except OSError:
            self._direct = 0
            return False
        return direct


def _hole_in(fd: int, at: int, extents: Iterable[Extent]) -> bool:
    """Whether some of these ranges, counted from `at`, have no room on the disk."""
    if not hasattr(os, "SEEK_HOLE"):
        return False
    try:
        return any(os.lseek(fd, at + first, os.SEEK_HOLE) < at + last for first, last in extents)
    except OSError:
        return True  # beyond the end


def _write_all(fd: int, memory: memoryview, at: int) -> None:
    done = 0
    while done < len(memory):
        try:
            done += os.pwrite(fd, memory[done:], at + done)
        except OSError as error:
            if not _go_plain(fd, error):
                raise


def _read_all(fd: int, memory: memoryview, at: int) -> bool:
    done = 0
    while done < len(memory):
        try:
            count = os.preadv(fd, [memory[done:]], at + done)
        except OSError as error:
            if not _go_plain(fd, error):
                raise
            continue
        if not count:
            return False
        done += count
    return True


def _go_plain(fd: int, error: OSError) -> bool:
    """Whether `error` was about O_DIRECT, which is off for `fd` then. EINVAL also follows a short, odd write."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if error.errno != errno.EINVAL or not flags & _O_DIRECT:
        return False
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~_O_DIRECT)
    return True
