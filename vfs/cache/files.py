"""Block files: a block, or the valid part of one, or a run of whole blocks; written and read past the page cache.

Layout of each block: a page with the header, then the valid ranges back to back, then zeros up to a whole page.
A block that another follows is whole, so that each begins at a multiple of `SLOT`.

    magic 8 · format 4 · capacity 4 · data length 4 · ranges 4 · block index 8 · lineage 16 · XXH3-64 of the
    data 8 · then per range: first 4, end 4 · then crc32 of all the header before it 4        (little-endian)

Buffered writes cost 25 times the CPU of O_DIRECT and push everybody's data out of the page cache, so O_DIRECT
is used wherever the file system takes it (Linux, open(2)), plain reads and writes elsewhere. Thread-safety:
all of it may be called on any thread; a block's header page is used by one writer at a time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from xxhash import xxh3_64_intdigest

from vfs.base.errors import ArtisyncError
from vfs.cache.block import BLOCK, MAX_EXTENTS, Block, Extent, little
from vfs.cache.buffers import PAGE, Buffer, pages
from vfs.cache.keys import RUN, place_in

log = logging.getLogger(__name__)

MAGIC = b"artisync"
FORMAT = 2

SLOT = PAGE + BLOCK
"""Bytes of a file that a whole block takes."""

_HEAD = struct.Struct("<8sIIIIQ16sQ")
_RANGE = struct.Struct("<II")
_CRC = struct.Struct("<I")

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_BASE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nothing but a regular file may hold us up


Ranges = tuple[Block, Sequence[Extent]]
"""A block, and which ranges of it are to be written."""


class Damaged(ArtisyncError):
    """What lies on the disk is not what was written there; it must not be used."""


class BlockFiles:
    """Reads and writes block files below one directory. `direct=False` never tries O_DIRECT."""

    def __init__(self, directory: Path, *, direct: bool = True) -> None:
        self._directory = os.fspath(directory)
        self._direct = _O_DIRECT if direct else 0

    @property
    def direct(self) -> bool:
        """Whether O_DIRECT is used: until the file system refused it once."""
        return bool(self._direct)

    def write(self, name: str, lineage: bytes, first: int, run: Sequence[Ranges]) -> list[int]:
        """Write blocks, the first of which has the index `first`, to a new file, whose directory is there; the
        bytes that each takes on the disk. All but the last are whole, and of `BLOCK` bytes.

        Raises OSError (FileExistsError when the name is taken); no file of ours is left then.
        """
        path = os.path.join(self._directory, name)
        sizes: list[int] = []
        fd = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for place, (block, extents) in enumerate(run):
                memory = _prepare(lineage, first + place, block, extents)
                self._write(fd, memory, place * SLOT)
                sizes.append(len(memory))
        except OSError:
            self.remove(name)
            raise
        finally:
            os.close(fd)
        return sizes

    def read(self, name: str, lineage: bytes, index: int) -> Block:
        """The block in a file. Raises `Damaged` when it is not, in every byte, that block; OSError when the
        file cannot be read, FileNotFoundError when it is gone."""
        place = place_in(name, index)
        if place is None:
            raise Damaged("the file cannot hold that block")
        fd = self._open(os.path.join(self._directory, name), os.O_RDONLY)
        try:
            length = os.fstat(fd).st_size
            if length % PAGE or length > RUN * SLOT:
                raise Damaged(f"a block file of {length} bytes")
            size = min(length - place * SLOT, SLOT)
            if size <= PAGE:
                raise Damaged("the file ends early")
            buffer = Buffer(size - PAGE)
            if self._read(fd, buffer.memory[:size], place * SLOT) != size:
                raise Damaged("the file ends early")
        finally:
            os.close(fd)
        return _unpack(buffer, size, lineage, index)

    def remove(self, name: str) -> None:
        """Delete a file if it is there. Raises nothing: what cannot be deleted now is found by a later
        sweep."""
        try:
            os.unlink(os.path.join(self._directory, name))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.debug("cannot delete %s: %s", name, error)

    def _open(self, path: str, flags: int) -> int:
        if self._direct:
            try:
                return os.open(path, flags | _BASE | self._direct, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = 0
                # Some file systems refuse O_DIRECT only after they made the file.
                if flags & os.O_CREAT and os.path.lexists(path):
                    os.unlink(path)
        return os.open(path, flags | _BASE, 0o600)

    def _write(self, fd: int, memory: memoryview, at: int) -> None:
        done = 0
        while done < len(memory):
            try:
                done += os.pwrite(fd, memory[done:], at + done)
            except OSError as error:
                if not self._go_plain(fd, error):
                    raise

    def _read(self, fd: int, memory: memoryview, at: int) -> int:
        done = 0
        while done < len(memory):
            try:
                count = os.preadv(fd, [memory[done:]], at + done)
            except OSError as error:
                if not self._go_plain(fd, error):
                    raise
                continue
            if not count:
                break
            done += count
        return done

    def _go_plain(self, fd: int, error: OSError) -> bool:
        """Whether `error` was about O_DIRECT; it is off for `fd` then. EINVAL also follows a short, odd
        write."""
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if error.errno != errno.EINVAL or not flags & _O_DIRECT:
            return False
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~_O_DIRECT)
        return True


def _prepare(lineage: bytes, index: int, block: Block, extents: Sequence[Extent]) -> memoryview:
    """The bytes of a block as they are in its file; a whole one is not copied."""
    if len(extents) == 1 and extents[0] == (0, block.capacity):
        memory, length = block.buffer.memory, block.capacity
    else:
        length = sum(last - first for first, last in extents)
        compact = Buffer(max(length, 1))
        memory, at = compact.memory, PAGE
        for first, last in extents:
            memory[at : at + last - first] = block.view(first, last)
            at += last - first
    end = PAGE + pages(max(length, 1))
    memory[PAGE + length : end] = bytes(end - PAGE - length)
    _pack(memory, lineage, index, block.capacity, length, extents)
    return memory[:end]


def _pack(
    memory: memoryview, lineage: bytes, index: int, capacity: int, length: int, extents: Sequence[Extent]
) -> None:
    checksum = xxh3_64_intdigest(memory[PAGE : PAGE + length])
    _HEAD.pack_into(memory, 0, MAGIC, FORMAT, capacity, length, len(extents), index, lineage, checksum)
    at = _HEAD.size
    for first, last in extents:
        _RANGE.pack_into(memory, at, first, last)
        at += _RANGE.size
    _CRC.pack_into(memory, at, zlib.crc32(memory[:at]))
    at += _CRC.size
    memory[at:PAGE] = bytes(PAGE - at)


def _unpack(buffer: Buffer, size: int, lineage: bytes, index: int) -> Block:
    memory = buffer.memory
    magic, form, capacity, length, count, its_index, its_lineage, checksum = _HEAD.unpack_from(memory)
    if magic != MAGIC or form != FORMAT:
        raise Damaged("not a block file of this format")
    end = _HEAD.size + count * _RANGE.size
    if count > MAX_EXTENTS or _CRC.unpack_from(memory, end)[0] != zlib.crc32(memory[:end]):
        raise Damaged("the header's checksum is wrong")
    if (its_lineage, its_index) != (lineage, index):
        raise Damaged("the file holds another block")
    extents = list(_RANGE.iter_unpack(memory[_HEAD.size : end]))
    if (
        not 0 < capacity <= BLOCK
        or not _sound(extents, capacity, length)
        or size != PAGE + pages(max(length, 1))
    ):
        raise Damaged("the header makes no sense")
    if xxh3_64_intdigest(memory[PAGE : PAGE + length]) != checksum:
        raise Damaged("the checksum is wrong")
    if length == capacity:
        block = Block(capacity, buffer)
        block.mark(0, capacity)
        return block
    block, at = Block(capacity, sparse=little(length, capacity)), PAGE
    for first, last in extents:
        block.write(first, memory[at : at + last - first])
        at += last - first
    return block


def _sound(extents: list[Extent], capacity: int, length: int) -> bool:
    before = -1
    for first, last in extents:
        if not before < first < last <= capacity:
            return False
        before = last
    return length == sum(last - first for first, last in extents)
