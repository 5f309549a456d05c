"""Which blocks the disk has: the database's records of them and the data files, kept in step with each other.

Room is reserved before a byte is written: `begin` notes blocks without ranges, `finish` notes what was written. So a process
that is killed in between leaves nothing that does not count, or that could not be evicted. Bytes are given back *before* their
record goes, in the transaction that deletes it: a record without its bytes is a miss, bytes without a record would be a leak. So
bytes may be gone while their record is still to be seen; `read` asks once more, under the database's lock, before it says that
a block is damaged.

What is known of a lineage is remembered, so that no block that is read costs a question to the database.

Thread-safety: what is done at once on any thread, all else on any but the event loop's. Raises sqlite3.DatabaseError,
`DatabaseBusy` and OSError as they come. What is remembered changes while SQLite is held (`fork_gate.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cachetools import FIFOCache

from vfs.cache import fork_gate
from vfs.cache.block import BLOCK, Block
from vfs.cache.data import DataFiles, delete
from vfs.cache.records import Records
from vfs.cache.rows import Damaged, Place, Stored, allocated, block_key, parse_key
from vfs.cache.write_queue import BATCH_RECORDS, Entry, WriteBatch

REMEMBERED = 50_000
"""Blocks of which it is remembered how they were stored."""
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
        self._begun: dict[Place, Stored] = {}
        """The records of the blocks that are being written, as this process left them."""
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
                self._wipe(block_key(place))
            return block

    def look(self, lineage: bytes) -> None:
        """Read what there is of a lineage, and remember it."""
        with fork_gate.held_off():  # nothing of ours changes in between
            found = self.records.blocks(lineage).items()
            self._known[lineage] = {index: stored for (_, index), stored in found if stored.extents}

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
        if stored is not None and stored.extents:
            blocks[place[1]] = stored
        else:
            blocks.pop(place[1], None)
        self._known[place[0]] = blocks

    def _look(self, place: Place) -> Stored | None:
        """How a block is stored, as the database says now."""
        with fork_gate.held_off():
            stored = self.records.stored([place]).get(place)
            self._remember(place, stored)
            return stored if stored is not None and stored.extents else None

    # --- changing ---------------------------------------------------------------------------------------------

    def begin(self, batch: WriteBatch, limit: int) -> list[Entry]:
        """Make all changes of a batch but its blocks, and reserve room for those; the blocks for which there is room now."""
        fitting: list[Entry] = []
        with self.records.transaction():
            self._change(batch)
            self._trim(limit // RECORDS_SHARE)
            while batch.blocks:
                stored = self.records.stored(batch.blocks)
                needs = [(entry, *_needs(entry, stored.get(place))) for place, entry in batch.blocks.items()]
                room = limit - self.records.usage()
                lacking = sum(more for _, _, more in needs) - room
                if lacking <= 0 or not self._evict(lacking):
                    sizes = {}
                    for entry, size, more in needs:
                        if more <= room:
                            room -= more
                            sizes[entry.place] = size
                            fitting.append(entry)
                    self._begun = self.records.reserve(sizes) | stored
                    break
        return fitting

    def finish(self, entries: Sequence[Entry], checksums: Mapping[Place, int]) -> None:
        """Note the blocks that were written, with their checksums, and give back the room of the others."""
        with self.records.transaction():
            now = self.records.stored([entry.place for entry in entries])
            noted: dict[Place, Stored] = {}
            lost = []
            for entry in entries:
                place = entry.place
                known, old, begun = checksums.get(place), now.get(place), self._begun[place]
                if old is None:  # it made way meanwhile
                    lost.append(block_key(place))
                elif (old.extents, old.checksum) != (begun.extents, begun.checksum):
                    continue  # it made way, and another process has begun or noted it
                elif known is not None:
                    noted[place] = Stored(entry.block.capacity, entry.extents, known, old.size)
                elif not old.extents:
                    lost.append(block_key(place))
            self.records.set_blocks(noted)
            for place, stored in noted.items():
                self._remember(place, stored)
            self._wipe(*lost)

    def wipe(self, key: str) -> None:
        """Delete a damaged record, and the bytes of its block."""
        with self.records.transaction():
            self._wipe(key)

    def evict(self, count: int) -> None:
        """Delete the blocks least recently used, none that is pinned, until `count` bytes of them are gone. Fewer, or
        none, when only pinned ones are left."""
        while count > 0:
            with self.records.transaction():
                freed = self._evict(min(count, 64 * BLOCK))  # nobody waits for more than that
            if not freed:
                break
            count -= freed

    def sweep(self) -> Iterator[None]:
        """Delete whatever lies among the data files and has no record, a directory with each step."""
        for directory, _, names in os.walk(self.files.directory, topdown=False):
            with self.records.transaction():
                for name in names:
                    lineage = bytes.fromhex(name) if re.fullmatch(r"[0-9a-f]{32}", name) else None
                    path = Path(directory, name)
                    if lineage is None or path != self.files.path(lineage) or not self.records.has(lineage):
                        delete(path)
            yield

    # --- within a transaction ---------------------------------------------------------------------------------

    def _change(self, batch: WriteBatch) -> None:
        for key, value in batch.records.items():
            if value is not None:
                self.records.set(key, value)
            elif key.startswith("b:"):
                self._drop(bytes.fromhex(key[2:]))
            else:
                self.records.delete(key)
        self.records.touch(batch.used)

    def _evict(self, count: int) -> int:
        """Make `count` bytes of room if that can be; the bytes."""
        freed = 0
        while freed < count and (oldest := self.records.least_used(64)):
            going = []
            for key, size in oldest:
                if freed < count:
                    going.append(key)
                    freed += max(size, 1)
            self._wipe(*going)
        return freed

    def _wipe(self, *keys: str) -> None:
        """Delete records of whatever kind, and the bytes that they stand for: with the whole lineage where a part of a file
        cannot be given back."""
        places = [place for key in keys if (place := parse_key(key))]
        for lineage, index in places:
            self._remember((lineage, index), None)
            if not self.files.punch(lineage, index * BLOCK, BLOCK):
                self._drop(lineage)
        self.records.delete(*keys)
        for lineage in {lineage for lineage, _ in places}:
            if not self.records.has(lineage):
                self.files.remove(lineage)

    def _drop(self, lineage: bytes) -> None:
        self.files.remove(lineage)
        self.records.drop(lineage)
        self._known.pop(lineage, None)

    def _trim(self, most: int) -> None:
        """Delete some small records, the oldest ones, if the database takes more than `most` bytes; pins stay, and the
        records of what is pinned."""
        if self.records.filled_bytes() > most:
            pinned = {key[2:].encode() for key, _ in self.records.scan("p:")}
            lineages = re.compile(rb"[0-9a-f]{32}")
            oldest = self.records.oldest(BATCH_RECORDS)
            self.records.delete(
                *[k for k, value in oldest if not pinned.intersection(lineages.findall(value))]
            )


def _needs(entry: Entry, stored: Stored | None) -> tuple[int, int]:
    """Bytes of the disk that a block takes at most once it is written, and how many more than now."""
    if stored is None:
        return (size := allocated(entry.extents)), size
    size = max(stored.size, allocated(tuple(sorted((*stored.extents, *entry.extents)))))
    return size, size - stored.size
