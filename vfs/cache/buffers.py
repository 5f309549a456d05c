"""Page-aligned buffers for blocks, used again when a block is gone.

A fresh megabyte costs 256 page faults, more than reading it from the disk; a recycled one costs nothing. Each
buffer is an anonymous mapping, so that a whole block goes to the disk with O_DIRECT from where it lies.

The mappings are shared with forked children, since O_DIRECT on private memory goes wrong during a fork (open(2)). So a
child never uses again what it inherited: it may still be its parent's.

Thread-safety: `Buffer()` and its end may happen on any thread; the free lists are plain lists whose `pop` and
`append` are atomic, and their bound is only kept roughly.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

PAGE = 4096
"""The unit of O_DIRECT here: alignment of memory, file offset and length, in bytes (open(2); 4096 suits every
disk)."""

SIZES = (PAGE, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""Bytes of data that a buffer can hold: small files do not take a megabyte each."""

KEEP_BYTES = 32 << 20
"""Bytes of free buffers of each size that are kept for use again."""

_free: dict[int, list[mmap.mmap]] = {size: [] for size in SIZES}
"""Of this process; a buffer returns to the lists that there were when it was made."""


def _begin_anew() -> None:
    global _free
    _free = {size: [] for size in SIZES}


os.register_at_fork(after_in_child=_begin_anew)


def pages(count: int) -> int:
    """`count` bytes rounded up to whole pages."""
    return -(-count // PAGE) * PAGE


def _references(cell: list[mmap.mmap]) -> int:
    return sys.getrefcount(cell[0])


_ALONE = _references([mmap.mmap(-1, PAGE)])
"""What `_references` says of a mapping that nobody else holds."""


class Buffer:
    """`size` bytes, page-aligned. The contents are whatever was there before.

    `capacity` is the least number of bytes (at most 1 MiB). `memory` is the whole. The mapping is used again after
    this object is gone, unless a view of it is still held somewhere. `untouched`: one whose pages take memory only as
    they are written.
    """

    __slots__ = ("_cell", "_home", "address", "memory", "size", "untouched")

    def __init__(self, capacity: int, *, untouched: bool = False) -> None:
        self.size = next(size for size in SIZES if size >= capacity)
        self.untouched = untouched
        self._home = _free[self.size]
        try:
            mapping = self._home.pop() if not untouched else None
        except IndexError:
            mapping = None
        if mapping is None:
            mapping = mmap.mmap(-1, self.size, mmap.MAP_SHARED)
            if untouched and hasattr(mmap, "MADV_NOHUGEPAGE"):
                mapping.madvise(mmap.MADV_NOHUGEPAGE)
        self._cell = [mapping]
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        self.memory = memoryview(mapping)

    def __del__(self) -> None:
        # A slice of `memory` that outlives us (a read still under way) keeps a reference to the mapping.
        self.memory.release()
        room = len(self._home) * self.size < KEEP_BYTES
        if room and not self.untouched and _references(self._cell) == _ALONE:
            self._home.append(self._cell[0])
