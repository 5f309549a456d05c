"""HDF5: metadata in small pieces, most of it near the head.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", II.A, the superblock.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vfs.formats.api import Format, Range, Sparse, Steps, need, want

MAGIC = b"\x89HDF\r\n\x1a\n"
HEAD = 64 << 10
"""Bytes that are fetched at the first touch: the superblock, and usually the first groups."""


class Superblock(NamedTuple):
    """Where addresses count from, where the file ends, where its root group is; `offsets`, `lengths`: bytes of such numbers."""

    base: int
    end: int
    root: int
    offsets: int
    lengths: int


def superblock(size: int) -> Steps[Superblock | None]:
    """What a file begins with; None where it cannot be understood."""
    head = yield from need(0, min(size, 96))
    if not head.startswith(MAGIC) or len(head) < 96 or head[8] > 3:
        return None
    # Versions 0 and 1 have the widths of numbers, and the addresses, elsewhere than 2 and 3.
    old = head[8] < 2
    offsets, lengths = (head[13], head[14]) if old else (head[9], head[10])
    if offsets not in (4, 8) or lengths not in (4, 8):
        return None
    first = 24 + 4 * head[8] if old else 12
    places = (first + number * offsets for number in (0, 2, 5 if old else 3))
    base, end, root = (int.from_bytes(head[at : at + offsets], "little") for at in places)
    return Superblock(base, end, root, offsets, lengths)


def advise(size: int) -> Steps[None]:
    """The head."""
    if (yield from need(0, min(size, 8))) == MAGIC:
        yield Sparse()
        yield from want([Range(0, HEAD)])


def complete(size: int) -> Steps[bool | None]:
    """Complete if it reaches as far as the superblock says. A file that is open for writing may say too much."""
    found = yield from superblock(size)
    return None if found is None else size >= found.end


FORMAT = Format(
    names=re.compile(rb"\.(h5|hdf5)$", re.IGNORECASE),
    magic=MAGIC,
    advise=advise,
    complete=complete,
)
