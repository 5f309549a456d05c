"""What the disk has of up to 64 blocks of one version lineage: a group, and the bytes that stand for it in the database.

Per block: place in the group 2 · ranges 2 · capacity 4 · size 4 · last use 8 (seconds since 1970, a double) · XXH3-64
of the valid bytes 8, then per range: first 4, end 4 (little-endian). A block without ranges is reserved: its bytes are
about to be written. Pure.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from vfs.base.errors import ArtisyncError
from vfs.cache.block import BLOCK, MAX_EXTENTS, Extent
from vfs.cache.buffers import PAGE

GROUP = 64
"""Blocks in a group."""

Place = tuple[bytes, int]
"""A block: its lineage, and its index in the file."""

GroupKey = tuple[bytes, int]
"""A group: its lineage, and how many groups of the file are before it."""

_HEAD = struct.Struct("<HHIIdQ")
_RANGE = struct.Struct("<II")
_KEY = re.compile(r"b:([0-9a-f]{32}):([0-9]{1,10})")


class Damaged(ArtisyncError):
    """What lies on the disk is not what was written there; it must not be used."""


class Gone(Damaged):
    """What was written there has been given back: an eviction that was killed halfway, or somebody's `rm`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block on the disk: `extents` of it are valid, their bytes have `checksum`, it takes `size` bytes of the disk,
    and was last used at `used`."""

    capacity: int
    extents: tuple[Extent, ...]
    checksum: int
    size: int
    used: float

    @property
    def valid(self) -> int:
        return sum(last - first for first, last in self.extents)


Group = dict[int, Stored]
"""By index in the file."""


def group_of(place: Place) -> GroupKey:
    return place[0], place[1] // GROUP


def lineage_key(lineage: bytes) -> str:
    """What the keys of a lineage's groups begin with."""
    return f"b:{lineage.hex()}"


def record_key(group: GroupKey) -> str:
    return f"{lineage_key(group[0])}:{group[1]}"


def parse_key(key: object) -> GroupKey | None:
    """The group of a record's key; None for anything else."""
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


def pack(group: Group) -> bytes:
    parts = []
    for index, block in sorted(group.items()):
        parts.append(
            _HEAD.pack(
                index % GROUP, len(block.extents), block.capacity, block.size, block.used, block.checksum
            )
        )
        parts += [_RANGE.pack(*extent) for extent in block.extents]
    return b"".join(parts)


def unpack(data: bytes, number: int) -> Group:
    """The group `number` of a lineage. Raises `Damaged` when `data` cannot be one."""
    group: Group = {}
    at = 0
    try:
        while at < len(data):
            place, count, capacity, size, used, checksum = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            end = at + count * _RANGE.size
            extents = tuple(_RANGE.iter_unpack(data[at:end])) if count else ()
            at = end
            if place >= GROUP or at > len(data) or not _sound(extents, capacity):
                raise Damaged("the record of blocks makes no sense")
            group[number * GROUP + place] = Stored(capacity, extents, checksum, size, used)
    except struct.error:
        raise Damaged("the record of blocks is cut short") from None
    return group


def _sound(extents: tuple[Extent, ...], capacity: int) -> bool:
    if not 0 < capacity <= BLOCK or len(extents) > MAX_EXTENTS:
        return False
    before = -1
    for first, last in extents:
        if not before < first < last <= capacity:
            return False
        before = last
    return True
