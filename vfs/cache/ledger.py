"""Which blocks the disk has: the database's groups and the data files, kept in step with each other.

Room is reserved before a byte is written: `begin` notes the blocks without ranges, `finish` notes what was written. So a
process that is killed in between leaves nothing that does not count, or that could not be evicted. Bytes are given back
*before* their record goes, in the transaction that deletes it: a record without its bytes is a miss, bytes without a
record would be a leak. So bytes may be gone while their record is still to be seen; `read` asks once more, under the
database's lock, before it says that a block is damaged.

What is known of a lineage is remembered, so that no block that is read costs a question to the database.

Thread-safety: what is done at once on any thread, all else on any but the event loop's. Raises sqlite3.DatabaseError,
`DatabaseBusy` and OSError as they come. What is remembered changes while SQLite is held (`fork_gate.py`).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from cachetools import FIFOCache

from vfs.cache import fork_gate
from vfs.cache.block import BLOCK, Block
from vfs.cache.data import DataFiles, delete
from vfs.cache.groups import (
    GROUP,
    Damaged,
    Group,
    GroupKey,
    Place,
    Stored,
    allocated,
    group_of,
    parse_key,
    record_key,
)
from vfs.cache.records import Records
from vfs.cache.write_queue import Entry, WriteBatch

REMEMBERED = 50_000
"""Blocks of which it is remembered how they were stored."""
RECORDS_SHARE = 8
"""The database takes at most this part of the limit; small records make way beyond it."""

Groups = dict[int, Group]
"""The groups of a lineage by their numbers."""


class _Changes(dict[GroupKey, Group]):
    """Groups as one transaction finds them, to be changed in place. A block that is taken out has been given back."""

    def __init__(self, records: Records, wipe: Callable[[str], None]) -> None:
        super().__init__()
        self._records = records
        self._wipe = wipe

    def __missing__(self, key: GroupKey) -> Group:
        try:
            self[key] = self._records.group(key)
        except Damaged:
            self._wipe(record_key(key))
            self[key] = {}
        return self[key]

    def of(self, place: Place) -> Group:
        return self[group_of(place)]


def _blocks(groups: Groups) -> int:
    return min(REMEMBERED, 1 + sum(map(len, groups.values())))


class Ledger:
    """The blocks in one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = Records(directory)
        self.files = DataFiles(directory)
        self._known: FIFOCache[bytes, Groups] = FIFOCache(REMEMBERED, _blocks)
        """What was last seen or changed; a lineage that changes gets other `Groups`."""

    # --- reading ----------------------------------------------------------------------------------------------

    def read(self, lineage: bytes, indexes: Iterable[int]) -> list[Block | Damaged | None]:
        """Blocks; None for one that there is not, `Damaged` in place of one that is not what was written, which is dropped."""
        found: dict[int, Block | Damaged | None] = dict.fromkeys(indexes)
        wanted = [
            (index, stored)
            for index in found
            if (stored := self._stored((lineage, index)) or self._look((lineage, index)))
        ]
        for (index, _), block in zip(wanted, self.files.read(lineage, wanted), strict=True):
            # what is damaged has perhaps made way, or was stored anew
            found[index] = self._read_locked((lineage, index)) if isinstance(block, Damaged) else block
        return list(found.values())

    def _read_locked(self, place: Place) -> Block | Damaged | None:
        """As `read`, while nobody is between giving bytes back and deleting their record."""
        with self._changing() as groups:
            stored = groups.of(place).get(place[1])
            if stored is None or not stored.extents:
                return None
            (block,) = self.files.read(place[0], [(place[1], stored)])
            if isinstance(block, Damaged):
                self._give_back(groups, place)
            return block

    def look(self, lineage: bytes) -> None:
        """Read what there is of a lineage, and remember it."""
        with fork_gate.held_off():  # nothing of ours changes in between
            self._known[lineage] = dict(self.records.groups(lineage))

    def kept(self, place: Place) -> bool:
        """Whether a block is remembered. At once."""
        return self._stored(place) is not None

    def known(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage that are remembered: index → valid bytes. At once."""
        groups = self._remembered(lineage).values()
        return {index: one.valid for group in groups for index, one in group.items() if one.extents}

    def _stored(self, place: Place) -> Stored | None:
        """How a block is stored, as far as is remembered. At once."""
        stored = self._remembered(place[0]).get(place[1] // GROUP, {}).get(place[1])
        return stored if stored is not None and stored.extents else None

    def _look(self, place: Place) -> Stored | None:
        """As `_stored`, by what the database says now."""
        key = group_of(place)
        with fork_gate.held_off(), suppress(Damaged):
            self._remember(key, self.records.group(key))
        return self._stored(place)

    def _remembered(self, lineage: bytes) -> Groups:
        try:
            return self._known[lineage]
        except KeyError:
            return {}

    def _remember(self, key: GroupKey, group: Group) -> None:
        self._known[key[0]] = {**self._remembered(key[0]), key[1]: group}

    # --- changing ---------------------------------------------------------------------------------------------

    def begin(self, batch: WriteBatch, limit: int) -> list[Entry]:
        """Make all changes of a batch but its blocks, and room for those; the blocks for which there is room now."""
        fitting: list[Entry] = []
        entries = list(batch.blocks.values())
        with self._changing() as groups:
            self._change(groups, batch)
            self._trim(limit // RECORDS_SHARE)
            while entries:
                room = limit - self.records.usage()
                lacking = sum(self._needs(groups, entry)[1] for entry in entries) - room
                if lacking <= 0 or not self._evict(groups, lacking):
                    break
            now = time.time()
            for entry in entries:
                size, more = self._needs(groups, entry)
                if more <= room:
                    room -= more
                    group = groups.of(entry.place)
                    stored = group.get(entry.place[1]) or Stored(entry.block.capacity, (), 0, 0, now)
                    group[entry.place[1]] = replace(stored, size=size, used=now)
                    fitting.append(entry)
        return fitting

    def finish(self, entries: Iterable[Entry], checksums: Mapping[Place, int]) -> None:
        """Note the blocks that were written, with their checksums, and give back the room of the others."""
        with self._changing() as groups:
            for entry in entries:
                place, group = entry.place, groups.of(entry.place)
                stored, known = group.get(entry.place[1]), checksums.get(place)
                if stored is not None and known is not None:
                    group[entry.place[1]] = Stored(
                        entry.block.capacity, entry.extents, known, stored.size, stored.used
                    )
                elif stored is None or not stored.extents:  # it made way meanwhile, or could not be written
                    self._give_back(groups, place)

    def wipe(self, key: str) -> None:
        """Delete a record that cannot be read, and the blocks of which it told."""
        with self.records.transaction():
            self._wipe(key)

    def evict(self, count: int) -> None:
        """Delete the blocks least recently used, none that is pinned, until `count` bytes of them are gone. Fewer, or
        none, when only pinned ones are left."""
        while count > 0:
            with self._changing() as groups:
                freed = self._evict(groups, min(count, 64 * BLOCK))  # nobody waits for more than that
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

    @contextmanager
    def _changing(self) -> Iterator[_Changes]:
        groups = _Changes(self.records, self._wipe)
        with self.records.transaction():
            yield groups
            self._save(groups)
            for key, group in groups.items():
                self._remember(key, group)

    def _save(self, groups: _Changes) -> None:
        for key, group in groups.items():
            if group:
                self.records.set_group(key, group)
            else:
                self._wipe(record_key(key))

    def _change(self, groups: _Changes, batch: WriteBatch) -> None:
        for key, value in batch.records.items():
            if value is not None:
                self.records.set(key, value)
            elif key.startswith("b:"):
                self._drop(groups, bytes.fromhex(key[2:]))
            else:
                self.records.delete(key)
        for place, when in batch.used.items():
            stored = groups.of(place).get(place[1])
            if stored is not None and stored.used < when:
                groups.of(place)[place[1]] = replace(stored, used=when)

    @staticmethod
    def _needs(groups: _Changes, entry: Entry) -> tuple[int, int]:
        """Bytes of the disk that a block takes at most once it is written, and how many more than now."""
        stored = groups.of(entry.place).get(entry.place[1])
        if stored is None:
            return (size := allocated(entry.extents)), size
        size = max(stored.size, allocated(tuple(sorted((*stored.extents, *entry.extents)))))
        return size, size - stored.size

    def _evict(self, groups: _Changes, count: int) -> int:
        """Make `count` bytes of room if that can be; the bytes."""
        freed = 0
        self._save(groups)
        while freed < count and (keys := self.records.least_used(16)):
            for key in keys:
                if freed < count:
                    freed += self._evict_from(groups, key, count - freed)
            self._save(groups)
        return freed

    def _evict_from(self, groups: _Changes, name: str, count: int) -> int:
        """Delete blocks of a group until `count` bytes are gone, all if need be; the bytes, 1 at least."""
        key = parse_key(name)
        if key is None:
            self._wipe(name)
            return 1
        group, freed = groups[key], 0
        for index in sorted(group, key=lambda index: (group[index].used, index)):
            if freed >= count:
                break
            if not self.files.punch(key[0], index * BLOCK, BLOCK):
                return self._evict_file(groups, key[0])
            freed += group.pop(index).size
        return max(freed, 1)

    def _evict_file(self, groups: _Changes, lineage: bytes) -> int:
        """Delete a whole lineage, where a part of a file cannot be given back."""
        freed = 0
        for number, _ in self.records.groups(lineage):
            group = groups[lineage, number]
            freed += sum(stored.size for stored in group.values())
        self._drop(groups, lineage)
        return max(freed, 1)

    def _drop(self, groups: _Changes, lineage: bytes) -> None:
        self.files.remove(lineage)
        self.records.drop(lineage)
        self._known.pop(lineage, None)
        for key in [key for key in groups if key[0] == lineage]:
            del groups[key]

    def _wipe(self, key: str) -> None:
        """Delete a record, and what a group has in its data file."""
        self.records.delete(key)
        group = parse_key(key)
        if group is not None and self.records.has(group[0]):
            self.files.punch(group[0], group[1] * GROUP * BLOCK, GROUP * BLOCK)
        elif group is not None:
            self.files.remove(group[0])

    def _give_back(self, groups: _Changes, place: Place) -> None:
        """Drop a block whose bytes are worth nothing."""
        groups.of(place).pop(place[1], None)
        self.files.punch(place[0], place[1] * BLOCK, BLOCK)

    def _trim(self, most: int) -> None:
        """Delete small records, the oldest first, while the database takes more than `most` bytes; pins stay, and the
        records of what is pinned."""
        if self.records.filled_bytes() <= most:
            return
        pinned = {key[2:].encode() for key, _ in self.records.scan("p:")}
        for key, value in self.records.oldest(1000):
            if not pinned.intersection(re.findall(rb"[0-9a-f]{32}", value)):
                self.records.delete(key)
            if self.records.filled_bytes() <= most:
                break
