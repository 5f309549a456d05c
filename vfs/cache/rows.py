"""What the disk has of one block, and the bytes that stand for it in the database.

Capacity 4 · XXH3-64 of the valid bytes 8, then per valid range: first 4, end 4 (little-endian). Nothing for a block that is
about to be written or deleted: it counts, and is none. Pure.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from vfs.base.errors import ArtisyncError
from vfs.cache.block import BLOCK, MAX_EXTENTS, Extent
from vfs.cache.buffers import PAGE

Place = tuple[bytes, int]
"""A block: its lineage, and its index in the file."""

_HEAD = struct.Struct("<IQ")
_RANGE = struct.Struct("<II")
_KEY = re.compile(r"b:([0-9a-f]{32}):(0|[1-9][0-9]{0,12})")


class Damaged(ArtisyncError):
    """What lies on the disk is not what was written there; it must not be used."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block on the disk: `extents` of it are valid, their bytes have `checksum`, and it takes `size` bytes of the disk."""

    capacity: int
    extents: tuple[Extent, ...]
    checksum: int
    size: int

    @property
    def valid(self) -> int:
        return sum(last - first for first, last in self.extents)


def lineage_key(lineage: bytes) -> str:
    """What the keys of a lineage's blocks begin with."""
    return f"b:{lineage.hex()}"


def block_key(place: Place) -> str:
    return f"b:{place[0].hex()}:{place[1]}"


def parse_key(key: object) -> Place | None:
    """The block of a record's key; None for anything else."""
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    return (bytes.fromhex(match[1]), int(match[2])) if match else None


def allocated(extents: tuple[Extent, ...]) -> int:
    """Bytes of the pages that hold these ranges."""
    count, before = 0, -1
    for first, last in extents:
        low, high = max(first // PAGE, before + 1), (last - 1) // PAGE
        count += max(0, high - low + 1)
        before = max(before, high)
    return count * PAGE


def pack(stored: Stored) -> bytes:
    head = _HEAD.pack(stored.capacity, stored.checksum)
    return head + b"".join(_RANGE.pack(*extent) for extent in stored.extents)


def unpack(data: bytes, size: int) -> Stored:
    """Raises `Damaged` when `data` cannot be a block's."""
    try:
        capacity, checksum = _HEAD.unpack_from(data)
        extents = tuple(_RANGE.iter_unpack(data[_HEAD.size :]))
    except struct.error:
        raise Damaged("the record of a block is cut short") from None
    before = -1
    for first, last in extents:
        if not before < first < last <= capacity <= BLOCK:
            raise Damaged("the record of a block makes no sense")
        before = last
    if len(extents) > MAX_EXTENTS:
        raise Damaged("the record of a block makes no sense")
    return Stored(capacity, extents, checksum, size)
