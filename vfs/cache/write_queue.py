"""What waits to be written to the disk, and can be read meanwhile.

A block or record handed over again before it is written is written once. Thread-safety: any thread; `_wake`, the one lock,
guards what changes here. Under it there is no I/O and no call out. No method waits, but `take` and `flush`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from vfs.cache.block import BLOCK, Block, Extent, checksum
from vfs.cache.records import PINS
from vfs.cache.rows import Place, lineage_key

BATCH_BYTES = 16 * BLOCK
"""Memory of the blocks in one batch; when so much waits, it is written at once."""
BATCH_ENTRIES = 64
BATCH_RECORDS = 500
"""Small records in one batch, so that the database's log, which counts, stays short."""
DELAY = 1.0
"""Seconds that a block waits for others, and for ranges that it may yet gain."""
MAX_RECORDS = 20_000
"""Records that are kept while they cannot be written."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A block that is to be written: the ranges that were valid when it was handed over."""

    place: Place
    block: Block
    extents: tuple[Extent, ...]
    due: float
    footprint: int
    """Bytes of memory that the block took then."""
    checksum: int | None
    """That of the ranges, if it was reckoned then."""

    @property
    def valid(self) -> int:
        return sum(last - first for first, last in self.extents)


@dataclass(slots=True)
class WriteBatch:
    """What is to be done in one go: small records (None deletes; a lineage, too), times of use, and blocks to write. `last`:
    nothing comes after it."""

    records: Mapping[str, bytes | None] = field(default_factory=dict)
    used: Mapping[Place, float] = field(default_factory=dict)
    blocks: dict[Place, Entry] = field(default_factory=dict)
    last: bool = False

    def __bool__(self) -> bool:
        return bool(self.blocks or self.records or self.used)


class WriteQueue:
    """The queue between whoever caches something and the writer thread. What came first is written first."""

    def __init__(self) -> None:
        self.queue_bytes = 0
        """Memory held by blocks that wait."""
        self.pins: dict[str, bytes] = {}
        """The records of pins as far as this process knows: they are put back when the cache is made anew."""
        self._wake = threading.Condition()
        self._blocks: dict[Place, Entry] = {}
        self._records: dict[str, bytes | None] = {}
        self._used: dict[Place, float] = {}
        self._retry_at: float | None = None
        """When the disk, which cannot be written now, is tried again."""
        self._flushing = 0
        self._close_at: float | None = None

    # --- blocks ---------------------------------------------------------------------------------------------

    def write(self, lineage: bytes, index: int, block: Block) -> None:
        """Hand a block over, with the ranges that are valid now; it replaces what the disk has of it."""
        due = time.monotonic() + DELAY
        # as long as its bytes are in the processor's cache: the writer would have to fetch them there again
        known = (block.checksum or checksum(block, block.extents)) if block.whole else None
        place = (lineage, index)
        with self._wake:
            old = self._blocks.get(place)
            if old is not None:
                due = old.due
                self.queue_bytes -= old.footprint
            entry = Entry(place, block, tuple(block.extents), due, block.footprint, known)
            self._blocks[place] = entry
            self.queue_bytes += entry.footprint
            if len(self._blocks) == 1 or self.queue_bytes >= BATCH_BYTES:
                self._wake.notify_all()

    def pending(self, lineage: bytes, index: int) -> Block | None:
        """A block that is not written yet."""
        entry = self._blocks.get((lineage, index))
        return None if entry is None else entry.block

    def pending_bytes(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage that wait: index → valid bytes."""
        with self._wake:
            return {index: e.valid for (of, index), e in self._blocks.items() if of == lineage}

    def touch(self, lineage: bytes, indexes: Iterable[int]) -> None:
        """Blocks are used now. It is noted with the next batch."""
        now = time.time()
        with self._wake:
            for index in indexes:
                self._used[lineage, index] = now

    def drop(self, lineage: bytes) -> None:
        """Delete all blocks of a lineage: those that wait at once, those on the disk later."""
        with self._wake:
            for place in [place for place in self._blocks if place[0] == lineage]:
                self.queue_bytes -= self._blocks.pop(place).footprint
            self._note(lineage_key(lineage), None)

    def dropped(self, lineage: bytes) -> bool:
        """Whether what the disk has of a lineage is to be deleted."""
        return lineage_key(lineage) in self._records

    # --- records --------------------------------------------------------------------------------------------

    def set_record(self, key: str, value: bytes | None) -> None:
        """Store a small value under a name that does not begin with `b:`; None deletes it."""
        if key.startswith("b:"):
            raise ValueError("names that begin with b: are for blocks")
        with self._wake:
            self._note(key, value)

    def pending_record(self, key: str) -> tuple[bool, bytes | None]:
        """Whether a record waits, and its value."""
        with self._wake:
            return key in self._records, self._records.get(key)

    def pending_records(self, prefix: str) -> dict[str, bytes | None]:
        """The records that wait and whose names begin with `prefix`."""
        with self._wake:
            return {key: value for key, value in self._records.items() if key.startswith(prefix)}

    def _note(self, key: str, value: bytes | None) -> None:
        self._records[key] = value
        if value is not None and key.startswith(PINS):
            self.pins[key] = value
        else:
            self.pins.pop(key, None)
        if len(self._records) > MAX_RECORDS:
            del self._records[next(iter(self._records))]
        self._wake.notify_all()

    # --- the writer's side ----------------------------------------------------------------------------------

    def take(self) -> WriteBatch:
        """Wait for work, or until the disk is to be tried again, and take a batch of work, perhaps an empty one. What is taken
        goes on waiting until `done`."""
        with self._wake:
            while True:
                now, retry = time.monotonic(), self._retry_at
                batch = self._batch(now)
                if batch or batch.last or (retry is not None and now >= retry):
                    return batch
                times = [entry.due for entry in islice(self._blocks.values(), 1)]
                times += [retry] if retry is not None else []
                self._wake.wait(max(min(times) - now, 0.001) if times else None)

    def done(self, batch: WriteBatch, *, records: bool) -> None:
        """A batch was dealt with; `records` says whether its records are written too, else they go on
        waiting."""
        with self._wake:
            for place, entry in batch.blocks.items():
                if self._blocks.get(place) is entry:
                    del self._blocks[place]
                    self.queue_bytes -= entry.footprint
            for key, value in batch.records.items() if records else ():
                if key in self._records and self._records[key] is value:
                    del self._records[key]
            self._wake.notify_all()

    def rest(self, seconds: float | None) -> None:
        """Write nothing for `seconds`: blocks are not kept meanwhile, and records wait. None: the disk can be written."""
        with self._wake:
            self._retry_at = None if seconds is None else time.monotonic() + seconds
            self._wake.notify_all()

    @property
    def resting(self) -> bool:
        return self._retry_at is not None and time.monotonic() < self._retry_at

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed over is written, `timeout` seconds at most; whether nothing waits that could be written
        (what the disk refused does not count), before the end."""
        end = time.monotonic() + timeout
        with self._wake:
            self._flushing += 1
            self._wake.notify_all()
            try:
                while self._blocks or (self._records and not self.resting):
                    left = min(end, self._close_at or end) - time.monotonic()
                    if left <= 0:
                        return False
                    self._wake.wait(left)
                return True
            finally:
                self._flushing -= 1

    def end(self, deadline: float) -> None:
        """`take` hands out what waits until `deadline` (monotonic seconds), then says that it was the
        last."""
        with self._wake:
            self._close_at = deadline
            self._wake.notify_all()

    def _batch(self, now: float) -> WriteBatch:
        closing = self._close_at is not None
        if self._close_at is not None and now >= self._close_at:
            return WriteBatch(last=True)
        hurry = closing or self._flushing > 0 or self.queue_bytes >= BATCH_BYTES
        batch, size = WriteBatch(), 0
        for place, entry in islice(self._blocks.items(), BATCH_ENTRIES):
            size += entry.footprint
            if (batch.blocks and size > BATCH_BYTES) or not (hurry or entry.due <= now):
                break
            batch.blocks[place] = entry
        if not self.resting:
            batch.records = dict(islice(self._records.items(), BATCH_RECORDS))
        if batch or hurry:
            batch.used, self._used = self._used, {}
        batch.last = closing and not batch
        return batch
