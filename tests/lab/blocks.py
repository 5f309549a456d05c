"""A disk cache in tests: one block of it, and what commands do to it."""

from __future__ import annotations

from vfs.cache import upkeep
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
from vfs.cache.ledger import Ledger


def read_block(cache: DiskCache, lineage: bytes, index: int) -> Block | None:
    """A block as the disk has it."""
    (block,) = cache.read(lineage, [index])
    return block


def ledger_of(cache: DiskCache) -> Ledger:
    assert cache._ledger is not None
    return cache._ledger


def usage(cache: DiskCache) -> int:
    """Bytes on the disk."""
    return ledger_of(cache).records.usage()


def verify(cache: DiskCache) -> list[upkeep.CheckResult]:
    return list(upkeep.verify(ledger_of(cache)))


def prune(cache: DiskCache, target: int) -> int:
    """As `artisync cache prune`; the bytes freed."""
    assert cache.flush(60)
    before = usage(cache)
    ledger_of(cache).evict(before - target)
    return before - usage(cache)
