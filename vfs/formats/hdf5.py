"""HDF5: metadata in small pieces, most of it near the head.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", II.A, the superblock.
"""

from __future__ import annotations

import re

from vfs.formats.api import Format, Range, Sparse, Steps, need, want

MAGIC = b"\x89HDF\r\n\x1a\n"
HEAD = 64 << 10
"""Bytes that are fetched at the first touch: the superblock, and usually the first groups."""


def end_of_file(size: int) -> Steps[int | None]:
    """Where the superblock says that the file ends; None where it cannot be told."""
    head = yield from need(0, min(size, 96))
    if not head.startswith(MAGIC) or len(head) < 96 or head[8] > 3:
        return None
    # Versions 0 and 1 have the widths of numbers, and the addresses, elsewhere than 2 and 3.
    width = head[13] if head[8] < 2 else head[9]
    addresses = (24, 28, 12, 12)[head[8]]
    if width not in (4, 8):
        return None
    at = addresses + 2 * width
    return int.from_bytes(head[at : at + width], "little")


def advise(size: int) -> Steps[None]:
    """The head."""
    if (yield from need(0, min(size, 8))) == MAGIC:
        yield Sparse()
        yield from want([Range(0, HEAD)])


def complete(size: int) -> Steps[bool | None]:
    """Complete if it reaches as far as the superblock says. A file that is open for writing may say too much."""
    end = yield from end_of_file(size)
    return None if end is None else size >= end


FORMAT = Format(
    names=re.compile(rb"\.(h5|hdf5)$", re.IGNORECASE),
    magic=MAGIC,
    advise=advise,
    complete=complete,
)
