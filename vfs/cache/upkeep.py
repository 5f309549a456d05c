"""What commands do to a cache, beside the mounts that use it: look at it, check it, clear it.

Blocks; not on the event loop's thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfs.base.errors import CacheUnusable, NoCache
from vfs.cache.database import DATABASE, TROUBLE, ForeignDatabase
from vfs.cache.ledger import Ledger
from vfs.cache.records import Records
from vfs.cache.rows import Damaged, parse_key
from vfs.cache.store import SWEPT, keep_pins, open_ledger


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A block or record that was checked; `error` is None when it is sound. `lineage` and `index` are None for a
    small record. `size`: bytes of the disk that the block took."""

    lineage: bytes | None
    index: int | None
    error: str | None
    size: int = 0


@contextmanager
def looked_after(directory: Path) -> Iterator[Ledger]:
    """Open the cache in `directory` for the block. It makes no cache, and does not change one of another version.

    Raises NoCache, CacheUnusable. An OSError of the block counts as the cache's: the block works on the cache alone.
    """
    directory = Path(os.path.abspath(directory))
    if not os.path.exists(directory / DATABASE):
        raise NoCache(f"there is no cache in {directory}")
    try:
        ledger = open_ledger(directory, renew=False)
        try:
            yield ledger
        finally:
            ledger.records.close()
    except ForeignDatabase as error:
        raise CacheUnusable(f"the cache in {directory} cannot be used: {error}") from error
    except TROUBLE as error:
        raise CacheUnusable(f"the cache in {directory}: {error}") from error


def verify(ledger: Ledger) -> Iterator[CheckResult]:
    """Check every block and record that is on the disk; what is not sound is dropped."""
    for key in ledger.records.all_keys():
        place = parse_key(key)
        lineage, index = place or (None, None)
        try:
            if ledger.records.get(key) is None:  # it was evicted meanwhile
                continue
        except Damaged as damage:
            ledger.wipe(key)
            yield CheckResult(lineage, index, str(damage))
            continue
        if place is None:
            yield CheckResult(None, None, None)
        elif stored := ledger.records.stored([place]).get(place):
            (block,) = ledger.read(place[0], [place[1]])
            if block is not None:
                yield CheckResult(
                    lineage, index, str(block) if isinstance(block, Damaged) else None, stored.size
                )


def clear(ledger: Ledger, *, in_use: bool) -> None:
    """Delete everything: blocks, pins and records. `in_use`: other records stay, since the processes that use the cache go by
    them and would not write them again."""
    (ledger.directory / SWEPT).unlink(missing_ok=True)
    with ledger.alone():
        ledger.records.clear(in_use=in_use)
    keep_pins(ledger)
    for _ in ledger.sweep():
        pass


def look(directory: Path) -> int | None:
    """Bytes that the cache in `directory` takes, when its database is sound; None where there is no cache.

    Nothing is made, renewed or evicted. Raises CacheUnusable, and `DatabaseBusy` when another process is in
    the way.
    """
    if not (directory / DATABASE).exists():
        return None
    try:
        records = Records(directory)
        try:
            records.check()
            return records.usage()
        finally:
            records.close()
    except (OSError, sqlite3.Error, ForeignDatabase) as error:
        raise CacheUnusable(f"the cache in {directory} cannot be read: {error}") from error
