"""The disk below the memory cache: blocks and small records, written behind by one thread, read by anyone.

Thread-safety: all methods may be called on any thread. Those that say "at once" touch no disk, and are the
only ones for the event loop's thread, with those of `WriteQueue` but `flush`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vfs.base import paths
from vfs.base.errors import CacheUnusable, NoCache
from vfs.base.units import size
from vfs.cache.block import Block
from vfs.cache.database import DATABASE, ForeignDatabase, cause_of
from vfs.cache.ledger import Ledger
from vfs.cache.records import PINS, Records
from vfs.cache.rows import Damaged, parse_key
from vfs.cache.store import clear, open_ledger
from vfs.cache.write_queue import WriteQueue
from vfs.cache.writer import TROUBLE, Warnings, Writer

log = logging.getLogger(__name__)
T = TypeVar("T")

_WHY = {
    "busy": "another process keeps it locked",
    "full": "its disk is full",
    "gone": "its directory is not there",
    "refused": "its directory may not be written",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A block or record that was checked; `error` is None when it is sound. `lineage` and `index` are None for a
    small record. `size`: bytes of the disk that the block took."""

    lineage: bytes | None
    index: int | None
    error: str | None
    size: int = 0


class DiskCache(WriteQueue):
    """Blocks by lineage and index, and records by name: those that wait to be written, over those on the disk. Made with
    `open`."""

    def __init__(self, directory: Path, limit: int) -> None:
        super().__init__()
        self.directory = directory
        self.limit = limit
        self._warnings = Warnings()
        self._writer = Writer(directory, limit, self, self._warnings)

    @classmethod
    def open(cls, directory: Path, limit: int, *, existing: bool = False) -> DiskCache:
        """Open the cache in `directory`, which is made if need be; `limit` in bytes of disk.

        A damaged database, or one of another version, is made anew. Raises CacheUnusable when the directory
        cannot be made or written. A full disk, or another process in the way, is no failure: the cache then
        starts without its directory and tries it again. `existing`: nothing is made where no cache is, and one
        of another version is left as it is; both raise CacheUnusable.
        """
        directory = Path(os.path.abspath(directory))
        if os.path.expandvars(directory) != str(directory):
            raise CacheUnusable(f"the name of a cache directory must not contain a variable: {directory}")
        if existing and not os.path.exists(directory / DATABASE):
            raise NoCache(f"there is no cache in {directory}")
        cache = cls(directory, limit)
        ledger: Ledger | None = None
        trouble: Exception | None = None
        try:
            ledger = open_ledger(directory, renew=not existing)
            for prefix in PINS:
                cache.pins.update(ledger.records.scan(prefix))
        except ForeignDatabase as error:
            raise CacheUnusable(f"the cache in {directory} cannot be used: {error}") from error
        except TROUBLE as error:
            if cause_of(error) not in ("full", "busy"):
                raise _unusable(directory, error) from error
            trouble = error
        cache._writer.start(ledger, trouble)
        return cache

    @property
    def disk_bytes(self) -> int:
        """Bytes on the disk, as last looked at. At once."""
        return self._writer.disk_bytes

    @property
    def problem(self) -> str | None:
        """Why nothing can be written just now, for people. At once."""
        return _WHY.get(trouble, "its disk does not work") if (trouble := self._writer.trouble) else None

    def why_not_kept(self, lacking: int) -> str:
        """Why so many bytes are not here although they were handed over, for people. At once."""
        if self.problem is not None:
            return self.problem
        if self.disk_bytes + lacking > self.limit:
            return f"its limit of {size(self.limit)} is too small (--cache-size)"
        return "it could not be written in time"

    # --- blocks ---------------------------------------------------------------------------------------------

    def kept(self, lineage: bytes, index: int) -> bool:
        """Whether a block is here, or waits to be written, as far as this process knows. At once."""
        if self.pending(lineage, index) is not None:
            return True
        ledger = self._writer.ledger
        return ledger is not None and ledger.kept((lineage, index)) and not self.dropped(lineage)

    def known(self, lineage: bytes) -> dict[int, int]:
        """As `index`, as far as this process knows. At once."""
        ledger = self._writer.ledger
        on_disk = {} if ledger is None or self.dropped(lineage) else ledger.known(lineage)
        return on_disk | self.pending_bytes(lineage)

    def index(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage, those that wait to be written too: index → valid bytes."""
        self._try(lambda ledger: ledger.look(lineage), None)
        return self.known(lineage)

    def read(self, lineage: bytes, indexes: Sequence[int]) -> list[Block | None]:
        """Read blocks from the disk, every byte of them checked; None for one that is not there or not sound."""
        nothing: list[Block | Damaged | None] = [None] * len(indexes)
        if self.dropped(lineage):
            found = nothing
        else:
            found = self._try(lambda ledger: ledger.read(lineage, indexes), nothing)
        blocks: list[Block | None] = []
        for block in found:
            if isinstance(block, Damaged):
                self._warnings.tell("damaged", "a cached block is damaged and is fetched again: %s", block)
            blocks.append(None if isinstance(block, Damaged) else block)
        self.touch(
            lineage, [index for index, block in zip(indexes, blocks, strict=True) if block is not None]
        )
        return blocks

    # --- records --------------------------------------------------------------------------------------------

    def get_record(self, key: str) -> bytes | None:
        """A record's value; None when there is none, or none that is sound."""
        waits, value = self.pending_record(key)
        if waits:
            return value
        try:
            return self._try(lambda ledger: ledger.records.get(key), None)
        except Damaged:
            self._warnings.tell("damaged record", "a record of the cache is damaged and not used")
            return None

    def records(self, prefix: str) -> list[tuple[str, bytes]]:
        """All records whose names begin with `prefix`, in order."""
        waiting = self.pending_records(prefix)  # first: what is written meanwhile is on the disk then
        nothing: dict[str, bytes] = {}
        found = self._try(lambda ledger: dict(ledger.records.scan(prefix)), nothing) | waiting
        return [(key, value) for key in sorted(found) if (value := found[key]) is not None]

    # --- looking after it -----------------------------------------------------------------------------------

    def usage(self) -> int:
        """Bytes on the disk, database included. Raises CacheUnusable, as all below do."""
        with self._usable() as ledger:
            return ledger.records.usage()

    def entries(self) -> dict[bytes, int]:
        """Every lineage with the bytes of the disk that its blocks take."""
        with self._usable() as ledger:
            return ledger.records.sizes()

    def verify(self) -> Iterator[CheckResult]:
        """Check every block and record that is on the disk; what is not sound is dropped."""
        with self._usable() as ledger:
            for key in list(ledger.records.keys()):
                if (result := _verify(ledger, key)) is not None:
                    yield result

    def prune(self, target: int) -> int:
        """Evict, least recently used first and nothing that is pinned, down to `target` bytes; the bytes
        freed."""
        self.flush(60.0)
        with self._usable() as ledger:
            before = ledger.records.usage()
            ledger.evict(before - target)
            return before - ledger.records.usage()

    def clear(self, *, in_use: bool = False) -> None:
        """Delete everything: blocks, pins and records. `in_use`: other records stay, since the processes that
        use the cache go by them and would not write them again."""
        self.forget()
        self.flush(60.0)
        with self._usable() as ledger:
            clear(ledger, in_use=in_use)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for `timeout` seconds at most, and let go of the directory."""
        self.end(time.monotonic() + timeout)
        if not self._writer.join(timeout + 1.0):
            log.warning("the disk of the cache does not answer; %d bytes were not kept", self.queue_bytes)

    # --- below ----------------------------------------------------------------------------------------------

    def _try(self, work: Callable[[Ledger], T], otherwise: T) -> T:
        """What `work` gives, or `otherwise` when the disk cannot be used; the writer looks into it."""
        ledger = self._writer.ledger
        try:
            return work(ledger) if ledger is not None else otherwise
        except TROUBLE as error:
            if cause_of(error) != "busy":
                self._writer.cope(error)
            return otherwise

    @contextmanager
    def _usable(self) -> Iterator[Ledger]:
        """For the commands that look after a cache: they cannot do without the disk, and say why."""
        ledger = self._writer.ledger
        if ledger is None:
            raise CacheUnusable(f"the cache in {self.directory} cannot be used at the moment")
        try:
            yield ledger
        except TROUBLE as error:
            raise CacheUnusable(f"the cache in {self.directory}: {error}") from error


def _verify(ledger: Ledger, key: str) -> CheckResult | None:
    """Check a record and its block; None if the record was evicted meanwhile."""
    place = parse_key(key)
    lineage, index = place or (None, None)
    try:
        if ledger.records.get(key) is None:
            return None
    except Damaged as damage:
        ledger.wipe(key)
        return CheckResult(lineage, index, str(damage))
    if place is None:
        return CheckResult(None, None, None)
    stored = ledger.records.stored([place]).get(place)
    (block,) = ledger.read(place[0], [place[1]])
    if block is None or stored is None:
        return None
    error = str(block) if isinstance(block, Damaged) else None
    return CheckResult(lineage, index, error, stored.size)


def check_place(directory: Path) -> None:
    """See whether a cache could be made in `directory`, or written if there is one; a full disk will do.

    Nothing is made. Raises CacheUnusable.
    """
    try:
        with tempfile.TemporaryFile(
            dir=paths.existing(directory)
        ):  # permissions do not tell of a read-only disk
            pass
    except OSError as error:
        if cause_of(error) != "full":
            raise _unusable(directory, error) from error


def _unusable(directory: Path, error: Exception) -> CacheUnusable:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file is in the way"
    return CacheUnusable(f"the cache directory {directory} cannot be used: {reason}")


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
