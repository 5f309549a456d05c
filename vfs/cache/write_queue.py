"""What waits to be written to the disk, and can be read meanwhile.

A block or record handed over again before it is written is written once. Thread-safety: any thread; `_wake`,
the one lock, guards what changes here. Under it there is no I/O and no call out. No method waits, but `take`
and `flush`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from vfs.cache.block import BLOCK, Block, Extent
from vfs.cache.data import checksum
from vfs.cache.groups import Place
from vfs.cache.records import PINS

BATCH_BYTES = 16 * BLOCK
"""Memory of the blocks in one batch; when so much waits, whole blocks are written at once."""
BATCH_ENTRIES = 64
BATCH_RECORDS = 500
"""Small records in one batch, so that the database's log, which counts, stays short."""
WHOLE_DELAY = 0.2
"""Seconds that a whole block waits for others, to be noted in one transaction with them."""
PARTIAL_DELAY = 1.0
"""Seconds that a block which may yet gain ranges waits, so that it is not written for each of them."""
HURRY_BYTES = 32 << 20
"""When more than this waits, blocks that may yet gain ranges are written at once."""
USED_DELAY = 30.0
"""Seconds over which times of use are gathered."""
MAX_RECORDS = 20_000
"""Records that are kept while they cannot be written."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A block that is to be written: the ranges that were valid when it was handed over."""

    lineage: bytes
    index: int
    block: Block
    extents: tuple[Extent, ...]
    due: float
    footprint: int
    """Bytes of memory that the block took then."""
    known_checksum: int | None = None

    @property
    def checksum(self) -> int:
        """That of the ranges; reckoned now if it is not known."""
        known = self.known_checksum
        return checksum(self.block, self.extents) if known is None else known

    @property
    def place(self) -> Place:
        return self.lineage, self.index

    @property
    def whole(self) -> bool:
        return self.extents == ((0, self.block.capacity),)

    @property
    def valid(self) -> int:
        return sum(last - first for first, last in self.extents)


@dataclass(slots=True)
class WriteBatch:
    """What is to be done in one go: lineages to drop, times of use, small records (None deletes), and blocks to write.

    `doubt` is trouble that a reader had. `last`: nothing comes after it.
    """

    drops: Mapping[bytes, object] = field(default_factory=dict)
    used: Mapping[Place, float] = field(default_factory=dict)
    records: Mapping[str, bytes | None] = field(default_factory=dict)
    blocks: dict[Place, Entry] = field(default_factory=dict)
    doubt: Exception | None = None
    last: bool = False

    def __bool__(self) -> bool:
        return bool(self.blocks or self.records or self.drops or self.used)


class Waiting:
    """The queue between whoever caches something and the writer thread."""

    def __init__(self) -> None:
        self.queue_bytes = 0
        """Memory held by blocks that wait."""
        self.pins: dict[str, bytes] = {}
        """The records of pins as far as this process knows: they are put back when the cache is made anew."""
        self._wake = threading.Condition()
        self._blocks: dict[Place, Entry] = {}
        self._records: dict[str, bytes | None] = {}
        self._drops: dict[bytes, object] = {}
        self._used: dict[Place, float] = {}
        self._used_since = 0.0
        self._asleep_until = math.inf
        """When `take` wakes up by itself (monotonic seconds)."""
        self._doubt: Exception | None = None
        self._flushing = 0
        self._stuck = False
        self._close_at: float | None = None

    # --- blocks ---------------------------------------------------------------------------------------------

    def put(self, lineage: bytes, index: int, block: Block) -> None:
        """A block to be written, with the ranges that are valid now."""
        due = time.monotonic() + (WHOLE_DELAY if block.whole else PARTIAL_DELAY)
        # as long as its bytes are in the processor's cache: the writer would have to fetch them there again
        known = checksum(block, block.extents) if block.whole else None
        key = (lineage, index)
        with self._wake:
            old = self._blocks.get(key)
            if old is not None:
                due = min(due, old.due)
                self.queue_bytes -= old.footprint
            entry = Entry(lineage, index, block, tuple(block.extents), due, block.footprint, known)
            self._blocks[key] = entry
            self.queue_bytes += entry.footprint
            if due < self._asleep_until or self.queue_bytes >= BATCH_BYTES:
                self._wake.notify_all()

    def block(self, place: Place) -> Block | None:
        """A block that waits."""
        entry = self._blocks.get(place)
        return None if entry is None else entry.block

    def blocks_of(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage that wait: index → valid bytes."""
        with self._wake:
            return {e.index: e.valid for e in self._blocks.values() if e.lineage == lineage}

    def drop(self, lineage: bytes) -> None:
        """The blocks of a lineage are to be deleted; those that wait are gone at once."""
        with self._wake:
            for key in [key for key in self._blocks if key[0] == lineage]:
                self.queue_bytes -= self._blocks.pop(key).footprint
            self._drops[lineage] = object()
            self._wake.notify_all()

    def dropped(self, lineage: bytes) -> bool:
        """Whether what the disk has of a lineage is to be deleted."""
        return lineage in self._drops

    def touch(self, place: Place) -> None:
        """A block is used now."""
        with self._wake:
            if not self._used:
                self._used_since = time.monotonic()
            self._used[place] = time.time()

    # --- records --------------------------------------------------------------------------------------------

    def note(self, key: str, value: bytes | None) -> None:
        """A record to be written, or deleted (None)."""
        with self._wake:
            self._records[key] = value
            if value is not None and key.startswith(PINS):
                self.pins[key] = value
            else:
                self.pins.pop(key, None)
            if len(self._records) > MAX_RECORDS:
                del self._records[next(iter(self._records))]
            self._wake.notify_all()

    def record(self, key: str) -> tuple[bool, bytes | None]:
        """Whether a record waits, and its value."""
        with self._wake:
            return key in self._records, self._records.get(key)

    def records(self, prefix: str) -> dict[str, bytes | None]:
        with self._wake:
            return {key: value for key, value in self._records.items() if key.startswith(prefix)}

    # --- the writer's side ----------------------------------------------------------------------------------

    def doubt(self, error: Exception) -> None:
        """A reader had trouble; the writer is to look."""
        with self._wake:
            self._doubt = error
            self._wake.notify_all()

    def take(self, patience: float | None, *, stuck: bool) -> WriteBatch:
        """Wait for work, `patience` seconds at most (None: until there is some), and take a batch of it,
        perhaps an empty one. `stuck`: records cannot be written now; they stay. What is taken goes on waiting
        until `done`."""
        end = None if patience is None else time.monotonic() + patience
        with self._wake:
            self._stuck = stuck
            self._wake.notify_all()
            while True:
                batch = self._batch()
                if batch or batch.doubt is not None or batch.last:
                    return batch
                now = time.monotonic()
                if end is not None and now >= end:
                    return batch
                times = [entry.due for entry in self._blocks.values()]
                if self._used:
                    times.append(self._used_since + USED_DELAY)
                if end is not None:
                    times.append(end)
                self._asleep_until = min(times, default=math.inf)
                self._wake.wait(max(self._asleep_until - now, 0.001) if times else None)

    def done(self, batch: WriteBatch, *, records: bool) -> None:
        """A batch was dealt with; `records` says whether its records are written too, else they go on
        waiting."""
        with self._wake:
            for place, entry in batch.blocks.items():
                if self._blocks.get(place) is entry:
                    del self._blocks[place]
                    self.queue_bytes -= entry.footprint
            for lineage, token in batch.drops.items():
                if self._drops.get(lineage) is token:
                    del self._drops[lineage]
            for key, value in batch.records.items() if records else ():
                if key in self._records and self._records[key] is value:
                    del self._records[key]
            self._wake.notify_all()

    def clear(self) -> None:
        """Forget everything that waits."""
        with self._wake:
            self._blocks.clear()
            self._records.clear()
            self._used.clear()
            self.pins.clear()
            self.queue_bytes = 0
            self._wake.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits that can be written; whether that came within `timeout` seconds, and before the end."""
        end = time.monotonic() + timeout
        with self._wake:
            self._flushing += 1
            self._wake.notify_all()
            try:
                while not self._idle():
                    left = min(end, self._close_at or end) - time.monotonic()
                    if left <= 0:
                        return False
                    self._wake.wait(left)
                return True
            finally:
                self._flushing -= 1

    def close(self, deadline: float) -> None:
        """`take` hands out what waits until `deadline` (monotonic seconds), then says that it was the
        last."""
        with self._wake:
            self._close_at = deadline
            self._wake.notify_all()

    def _idle(self) -> bool:
        return not (self._blocks or self._drops or (self._records and not self._stuck))

    def _batch(self) -> WriteBatch:
        now = time.monotonic()
        closing = self._close_at is not None
        hurry = closing or self._flushing > 0 or self.queue_bytes > HURRY_BYTES
        if self._close_at is not None and now >= self._close_at:
            return WriteBatch(last=True)
        ripe = self.queue_bytes >= BATCH_BYTES or any(entry.due <= now for entry in self._blocks.values())
        batch, size = WriteBatch(), 0
        for key, entry in self._blocks.items():
            if hurry or entry.due <= now or (ripe and entry.whole):
                if batch.blocks and size + entry.footprint > BATCH_BYTES:
                    break
                batch.blocks[key] = entry
                size += entry.footprint
                if len(batch.blocks) >= BATCH_ENTRIES:
                    break
        if not self._stuck:
            batch.records = dict(islice(self._records.items(), BATCH_RECORDS))
        batch.drops = dict(self._drops)
        if self._used and (hurry or batch or now >= self._used_since + USED_DELAY):
            batch.used, self._used = self._used, {}
        batch.doubt, self._doubt = self._doubt, None
        batch.last = closing and not batch
        return batch
