"""Page-aligned buffers for blocks, used again when a block is gone.

A fresh megabyte costs 256 page faults, more than reading it from the disk; a recycled one costs nothing. Two of a
megabyte share a huge page where the kernel has one: what the kernel copies, and what goes to or from the disk with O_DIRECT,
is looked up page by page otherwise, at 0.2 s of processor time for a GiB that is read from the disk and given to a program.

Only those of a megabyte are kept: they alone go to the disk with O_DIRECT.

The memory is private: a forked child has a copy of its own. While a buffer is read into with O_DIRECT nobody else writes
there, which is what makes that safe beside a fork (open(2)).

Thread-safety: `Buffer()` and its end may happen on any thread; the lists change by single operations that are atomic,
and their bound is only kept roughly.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from typing import Any

from vfs.base import memory

PAGE = 4096
"""The unit of O_DIRECT here: alignment of memory, file offset and length, in bytes (open(2); 4096 suits every
disk)."""

MOST = 1 << 20
"""Bytes of the largest buffer."""

_free: list[Any] = []
"""Free arrays of `MOST` bytes; each array keeps its mapping alive."""
_used: list[None] = []
"""One for each page of the buffers in use; a list, since it counts right on any thread."""


def pages(count: int) -> int:
    """`count` bytes rounded up to whole pages."""
    return -(-count // PAGE) * PAGE


def _map(size: int, advice: str) -> mmap.mmap:
    mapping = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, advice):
        with suppress(OSError):  # a kernel without huge pages
            mapping.madvise(getattr(mmap, advice))
    return mapping


def _fresh() -> Any:
    """Half of a huge page; the other half is free."""
    mapping, half = _map(2 * MOST, "MADV_HUGEPAGE"), ctypes.c_ubyte * MOST
    _free.append(half.from_buffer(mapping, MOST))
    return half.from_buffer(mapping)


def taken() -> tuple[int, int]:
    """Bytes of the buffers in use, and of those that are kept for use again. Any thread."""
    return len(_used) * PAGE, len(_free) * MOST


def _let_go(array: Any) -> None:
    """Give back the memory of half a huge page, whose mapping stays as long as the other half is used."""
    if hasattr(mmap, "MADV_DONTNEED"):
        libc.madvise(ctypes.addressof(array), MOST, mmap.MADV_DONTNEED)


libc: Any = ctypes.CDLL(None)
"""The C library, for what Python does not have."""
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _references(cell: list[Any]) -> int:
    return sys.getrefcount(cell[0])


_ALONE = _references([(ctypes.c_ubyte * PAGE)()])
"""What `_references` says of an array of which there is no view."""


class Buffer:
    """At least `capacity` bytes (at most `MOST`). The contents are whatever was there before.

    `memory` is the whole. It is used again after this object is gone, unless a view of it is still held somewhere.
    `untouched`: one whose pages take memory only as they are written.
    """

    __slots__ = ("_cell", "address", "memory", "size", "untouched")

    def __init__(self, capacity: int, *, untouched: bool = False) -> None:
        self.untouched = untouched
        self.size = pages(capacity)
        if untouched:
            array: Any = _map(self.size, "MADV_NOHUGEPAGE")
        elif capacity <= MOST // 4:  # small files do not take a megabyte each
            array = bytearray(self.size)
        else:
            self.size = MOST
            try:
                array = _free.pop()
            except IndexError:
                array = _fresh()
        self._cell = [array]
        self.address = ctypes.addressof(ctypes.c_ubyte.from_buffer(array))
        self.memory = memoryview(array).cast("B")
        _used.extend([None] * (self.size // PAGE))

    def __del__(self) -> None:
        # A slice of `memory` that outlives us (a read still under way) keeps a reference to the array.
        self.memory.release()
        del _used[-self.size // PAGE :]
        if self.untouched or self.size < MOST or _references(self._cell) != _ALONE:
            return
        used, free = taken()
        if free + MOST <= memory.SPARE and used + free + MOST <= memory.BUFFERS:
            _free.append(self._cell[0])
        else:
            _let_go(self._cell[0])
