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

from vfs.base import memory

PAGE = 4096
"""The unit of O_DIRECT here: alignment of memory, file offset and length, in bytes (open(2); 4096 suits every
disk)."""

HUGE = 2 << 20
"""Bytes of a huge page, where there are any."""

SIZES = (PAGE, 16 << 10, 64 << 10, 256 << 10, HUGE // 2)
"""Bytes of data that a buffer can hold: small files do not take a megabyte each."""

_free: dict[int, list[Any]] = {size: [] for size in SIZES}
"""Arrays of bytes, each of which keeps its mapping."""
_used: dict[int, list[None]] = {size: [] for size in SIZES}
"""One for each buffer in use; a list, since it counts right on any thread."""


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


def taken() -> tuple[int, int]:
    """Bytes of the buffers in use, and of those that are kept for use again. Any thread."""
    used, free = (sum(size * len(these) for size, these in lists.items()) for lists in (_used, _free))
    return used, free


def _room(size: int) -> bool:
    """Whether another buffer of that size may be kept; of another size that takes more, some are let go for it."""
    used, free = taken()
    if free + size <= memory.SPARE and used + free + size <= memory.BUFFERS:
        return True
    other = max(SIZES, key=lambda other: other * len(_free[other]))
    if other == size:
        return False
    with suppress(IndexError):  # another thread took it
        for _ in range(max(1, size // other)):
            _let_go(_free[other].pop())
    return True


def _let_go(array: Any) -> None:
    """Give back the memory of half a huge page, whose mapping stays as long as the other half is used."""
    if len(array) == HUGE // 2 and hasattr(mmap, "MADV_DONTNEED"):
        _libc.madvise(ctypes.addressof(array), len(array), mmap.MADV_DONTNEED)


_libc: Any = ctypes.CDLL(None)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


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
        _used[self.size].append(None)
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
        _used[self.size].pop()
        if self.untouched or _references(self._cell) != _ALONE:
            return
        if _room(self.size):
            _free[self.size].append(self._cell[0])
        else:
            _let_go(self._cell[0])
