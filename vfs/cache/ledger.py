"""Which blocks the disk has: the database's records of them and the data files, kept in step with each other.

A block counts before its first byte is written, and until its last is given back: its record is reserved first, and says what
was written afterwards; of a block that makes way it says nothing first, and goes last. So a process that is killed in between
leaves nothing that does not count, or that could not make way. What was read and is not right has perhaps made way meanwhile:
`read` looks once more, under the database's lock, before it says that a block is damaged.

What is known of a lineage is remembered, so that no block that is read costs a question to the database.

Thread-safety: what is done at once on any thread, all else on any but the event loop's. Raises sqlite3.DatabaseError,
`DatabaseBusy` and OSError as they come. What is remembered changes while SQLite is held (`fork_gate.py`).
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from cachetools import FIFOCache

from vfs.cache import file_lock, fork_gate
from vfs.cache.block import BLOCK, Block, checksum
from vfs.cache.data import DataFiles, delete
from vfs.cache.file_lock import locked
from vfs.cache.records import Records
from vfs.cache.rows import Damaged, Place, Stored, allocated, block_key, parse_key
from vfs.cache.write_queue import BATCH_RECORDS, Entry, WriteBatch

log = logging.getLogger(__name__)

REMEMBERED = 50_000
"""Blocks of which it is remembered how they were stored."""
WRITING = "writing"
"""The file that is locked while data files are written or deleted."""
LEAST_FREE, LEAST_SHARE = 1 << 30, 50
"""Bytes of the disk that the cache leaves free for other programs: `LEAST_FREE`, or a small disk's size by `LEAST_SHARE`."""
EVICTED_TOGETHER = 64 * BLOCK
"""Bytes that make way in one go: nobody waits for more than that."""
RECORDS_SHARE = 8
"""The database takes at most this part of the limit; small records make way beyond it."""


def _count(blocks: dict[int, Stored]) -> int:
    return min(REMEMBERED, 1 + len(blocks))


class Ledger:
    """The blocks in one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = Records(directory)
        self.files = DataFiles(directory)
        self._patience = file_lock.SECONDS
        self._known: FIFOCache[bytes, dict[int, Stored]] = FIFOCache(REMEMBERED, _count)

    # --- reading ----------------------------------------------------------------------------------------------

    def read(self, lineage: bytes, indexes: Iterable[int]) -> list[Block | Damaged | None]:
        """Blocks; None for one that there is not, `Damaged` in place of one that is not what was written, which is dropped."""
        found: dict[int, Block | Damaged | None] = dict.fromkeys(indexes)
        known = self._remembered(lineage)
        wanted = [(i, stored) for i in found if (stored := known.get(i) or self._look((lineage, i)))]
        for (index, _), block in zip(wanted, self.files.read(lineage, wanted), strict=True):
            # what is damaged has perhaps made way, or was stored anew
            found[index] = self._read_locked((lineage, index)) if isinstance(block, Damaged) else block
        return list(found.values())

    def _read_locked(self, place: Place) -> Block | Damaged | None:
        """As `read`, while nobody is between giving bytes back and deleting their record."""
        with self.records.transaction():
            stored = self._look(place)
            if stored is None:
                return None
            (block,) = self.files.read(place[0], [(place[1], stored)])
            if isinstance(block, Damaged):
                self._delete(self._with({block_key(place): 0}))
            return block

    def look(self, lineage: bytes) -> None:
        """Read what there is of a lineage, and remember it."""
        with fork_gate.held_off():  # nothing of ours changes in between
            found = self.records.blocks(lineage).items()
            self._known[lineage] = {index: stored for (_, index), stored in found}

    def kept(self, place: Place) -> bool:
        """Whether a block is remembered. At once."""
        return place[1] in self._remembered(place[0])

    def known(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage that are remembered: index → valid bytes. At once."""
        return {index: stored.valid for index, stored in self._remembered(lineage).copy().items()}

    def _remembered(self, lineage: bytes) -> dict[int, Stored]:
        try:
            return self._known[lineage]
        except KeyError:
            return {}

    def _remember(self, place: Place, stored: Stored | None) -> None:
        blocks = self._remembered(place[0])
        if stored is not None:
            blocks[place[1]] = stored
        else:
            blocks.pop(place[1], None)
        self._known[place[0]] = blocks

    def _look(self, place: Place) -> Stored | None:
        """How a block is stored, as the database says now."""
        with fork_gate.held_off():
            stored = self.records.stored([place]).get(place)
            self._remember(place, stored)
            return stored

    def spare(self) -> int:
        """Bytes of the disk that the cache may yet take."""
        disk = shutil.disk_usage(self.directory)
        return max(0, disk.free - min(LEAST_FREE, disk.total // LEAST_SHARE)) if disk.total else sys.maxsize

    # --- changing ---------------------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Data files are written and deleted by one process at a time, so that none writes what another deletes: its bytes would
        be nowhere counted. A process that was stopped in the middle is waited for once."""
        with locked(self.directory / WRITING, self._patience) as held:
            self._patience = file_lock.SECONDS if held else 0.0
            yield

    def write(self, batch: WriteBatch, limit: int) -> bool:
        """Make all changes of a batch within `limit` bytes of the disk; whether there was room for all its blocks."""
        with self.alone():
            for key in batch.records:
                if key.startswith("b:"):
                    self._delete(self.records.sizes_in(bytes.fromhex(key[2:])))
            with self.records.transaction():
                self._change(batch, limit)
                fitting, going = self._reserve(batch.blocks, limit)
            if fitting or going:
                self._replace(going, [batch.blocks[place] for place in sorted(fitting)], fitting)
        return len(fitting) == len(batch.blocks)

    def evict(self, count: int) -> None:
        """Delete the blocks least recently used, none that is pinned, until `count` bytes of them are gone. Fewer, or none, when
        only pinned ones are left."""
        goal, before = self.records.data_bytes() - count, -1
        while goal < (now := self.records.data_bytes()) != before:
            self.write(WriteBatch(), self.records.usage() - min(now - goal, EVICTED_TOGETHER))
            before = now

    def wipe(self, key: str) -> None:
        """Delete a damaged record, and the bytes of its block."""
        with self.alone():
            self._delete(self._with({key: 0}))

    def sweep(self) -> Iterator[None]:
        """Delete whatever lies among the data files and has no record, a directory with each step."""
        for directory, _, names in os.walk(self.files.directory, topdown=False):
            with self.alone():
                for name in names:
                    lineage = bytes.fromhex(name) if re.fullmatch(r"[0-9a-f]{32}", name) else None
                    path = Path(directory, name)
                    if lineage is None or path != self.files.path(lineage) or not self.records.has(lineage):
                        delete(path)
            yield

    # --- below ------------------------------------------------------------------------------------------------

    def _change(self, batch: WriteBatch, limit: int) -> None:
        """Change small records and times of use. Some small records, the oldest ones, make way if the database takes more than its
        share; pins stay, and the records of what is pinned."""
        for key, value in batch.records.items():
            if value is not None:
                self.records.set(key, value)
            elif not key.startswith("b:"):
                self.records.delete(key)
        self.records.touch(batch.used)
        if batch.records and self.records.filled_bytes() > limit // RECORDS_SHARE:
            pinned = {key[2:].encode() for key, _ in self.records.scan("p:")}
            lineages = re.compile(rb"[0-9a-f]{32}")
            oldest = self.records.oldest(BATCH_RECORDS)
            self.records.delete(
                *[k for k, value in oldest if not pinned.intersection(lineages.findall(value))]
            )

    def _reserve(self, entries: Mapping[Place, Entry], limit: int) -> tuple[dict[Place, int], dict[str, int]]:
        """Count what blocks may take once they are written: those for which there is room, with their bytes; and what makes way."""
        going: dict[str, int] = {}
        while True:
            stored = self.records.stored(entries)
            sizes = {place: _size(entry, stored.get(place)) for place, entry in entries.items()}
            had = {place: one.size for place, one in stored.items()}
            more = {place: size - had.get(place, 0) for place, size in sizes.items()}
            room = min(limit - self.records.usage(), self.spare()) + sum(going.values())
            oldest = self.records.oldest_blocks(sum(more.values()) - room, going)
            if not oldest:
                break
            going |= self._with(oldest)
            self._unset(going)
        fitting = {}
        for place, size in sizes.items():
            if more[place] <= room:
                room -= more[place]
                fitting[place] = size
        self.records.reserve(fitting)
        return fitting, going

    def _replace(self, going: dict[str, int], entries: list[Entry], sizes: Mapping[Place, int]) -> None:
        """Delete blocks, write others in their room, and note it."""
        self._give_back(going)
        noted: dict[Place, Stored] = {}
        try:
            for lineage, some in groupby(entries, lambda entry: entry.place[0]):
                run = list(some)
                try:
                    self.files.write(lineage, [(e.place[1], e.block, e.extents) for e in run])
                except OSError as error:
                    if error.errno != errno.EFBIG:
                        raise
                    log.debug("not kept, the file would be too long here: %s", lineage.hex())
                    continue
                for e in run:
                    known = checksum(e.block, e.extents) if e.checksum is None else e.checksum
                    noted[e.place] = Stored(e.block.capacity, e.extents, known, sizes[e.place])
        finally:
            with self.records.transaction():
                if lost := sizes.keys() - noted.keys():
                    going |= {block_key(place): 0 for place in lost - self.records.stored(lost).keys()}
                    self._give_back(going)
                self.records.set_blocks(noted)
                for place, stored in noted.items():
                    self._remember(place, stored)
                self.records.forget(going)

    def _with(self, records: dict[str, int]) -> dict[str, int]:
        """Records that are to go, with the bytes they stand for; and all blocks of their lineages where a part of a file cannot
        be given back."""
        if not self.files.punches:
            for lineage, _ in _places(records):
                records |= self.records.sizes_in(lineage)
        return records

    def _delete(self, keys: Collection[str]) -> None:
        """Delete in three steps. After a kill in between, what is left counts, is no block, and makes way before all else."""
        with self.records.transaction():
            self._unset(keys)
        self._give_back(keys)
        with self.records.transaction():
            self.records.forget(keys)

    def _unset(self, keys: Collection[str]) -> None:
        self.records.unset(keys)
        for place in _places(keys):
            self._remember(place, None)

    def _give_back(self, keys: Iterable[str]) -> None:
        for lineage, blocks in groupby(sorted(_places(keys)), lambda place: place[0]):
            if self.records.has(lineage):
                self.files.punch(lineage, [index for _, index in blocks])
            else:
                self.files.remove(lineage)


def _places(keys: Iterable[str]) -> list[Place]:
    """The blocks whose records have these keys."""
    return [place for key in keys if (place := parse_key(key))]


def _size(entry: Entry, stored: Stored | None) -> int:
    """Bytes of the disk that a block takes at most once it is written."""
    if stored is None:
        return allocated(entry.extents)
    return max(stored.size, allocated(tuple(sorted((*stored.extents, *entry.extents)))))
