"""One block of a disk cache."""

from __future__ import annotations

from vfs.cache.block import Block
from vfs.cache.disk import DiskCache


def read_block(cache: DiskCache, lineage: bytes, index: int) -> Block | None:
    """A block as the disk has it."""
    (block,) = cache.read(lineage, [index])
    return block
