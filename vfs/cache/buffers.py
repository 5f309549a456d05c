"""Page-aligned buffers for blocks, used again when a block is gone.

A fresh megabyte costs 256 page faults, more than reading it from the disk; a recycled one costs nothing. Two of a
megabyte share a huge page where the kernel has one: what the kernel copies, and what goes to or from the disk with O_DIRECT,
is looked up page by page otherwise, at 0.2 s of processor time for a GiB that is read from the disk and given to a program.

The memory is private: a forked child has a copy of its own. While a buffer is read into with O_DIRECT nobody else writes
there, which is what makes that safe beside a fork (open(2)).

Thread-safety: `Buffer()` and its end may happen on any thread; the free lists are plain lists whose `pop` and
`append` are atomic, and their bound is only kept roughly.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from typing import Any

PAGE = 4096
"""The unit of O_DIRECT here: alignment of memory, file offset and length, in bytes (open(2); 4096 suits every
disk)."""

HUGE = 2 << 20
"""Bytes of a huge page, where there are any."""

SIZES = (PAGE, 16 << 10, 64 << 10, 256 << 10, HUGE // 2)
"""Bytes of data that a buffer can hold: small files do not take a megabyte each."""

KEEP_BYTES = 32 << 20
"""Bytes of free buffers of each size that are kept for use again."""

_free: dict[int, list[Any]] = {size: [] for size in SIZES}
"""Arrays of bytes, each of which keeps its mapping."""


def pages(count: int) -> int:
    """`count` bytes rounded up to whole pages."""
    return -(-count // PAGE) * PAGE


def _map(size: int, advice: str) -> mmap.mmap:
    mapping = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, advice):
        with suppress(OSError):  # a kernel without huge pages
            mapping.madvise(getattr(mmap, advice))
    return mapping


def _fresh(size: int, untouched: bool) -> Any:
    array = ctypes.c_ubyte * size
    if untouched or size < HUGE // 2:
        return array.from_buffer(_map(size, "MADV_NOHUGEPAGE"))
    mapping = _map(HUGE, "MADV_HUGEPAGE")
    _free[size].append(array.from_buffer(mapping, size))
    return array.from_buffer(mapping)


def _references(cell: list[Any]) -> int:
    return sys.getrefcount(cell[0])


_ALONE = _references([_fresh(PAGE, True)])
"""What `_references` says of an array of which there is no view."""


class Buffer:
    """`size` bytes, page-aligned. The contents are whatever was there before.

    `capacity` is the least number of bytes (at most 1 MiB). `memory` is the whole. It is used again after
    this object is gone, unless a view of it is still held somewhere. `untouched`: one whose pages take memory only as
    they are written.
    """

    __slots__ = ("_cell", "address", "memory", "size", "untouched")

    def __init__(self, capacity: int, *, untouched: bool = False) -> None:
        self.size = next(size for size in SIZES if size >= capacity)
        self.untouched = untouched
        try:
            array = _free[self.size].pop() if not untouched else None
        except IndexError:
            array = None
        if array is None:
            array = _fresh(self.size, untouched)
        self._cell = [array]
        self.address = ctypes.addressof(array)
        self.memory = memoryview(array).cast("B")

    def __del__(self) -> None:
        # A slice of `memory` that outlives us (a read still under way) keeps a reference to the array.
        self.memory.release()
        home = _free[self.size]
        if len(home) * self.size < KEEP_BYTES and not self.untouched and _references(self._cell) == _ALONE:
            home.append(self._cell[0])
