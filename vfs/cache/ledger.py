"""Which blocks the disk has: the database's groups and the data files, kept in step with each other.

Room is reserved before a byte is written: `begin` notes the blocks without ranges, `finish` notes what was written. So a
process that is killed in between leaves nothing that does not count, or that could not be evicted. Bytes are given back
*before* their record goes, in the transaction that deletes it: a record without its bytes is a miss, bytes without a
record would be a leak. So bytes may be gone while their record is still to be seen; `read` asks once more, under the
database's lock, before it says that a block is damaged.

Thread-safety: `read`, `index` and the questions on any thread but the event loop's; `begin`, `finish` and `evict`, too, since
all of them are transactions. Raises sqlite3.DatabaseError, `DatabaseBusy` and OSError as they come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfs.cache.block import BLOCK, Block, Extent
from vfs.cache.data import DataFiles
from vfs.cache.groups import (
    GROUP,
    Damaged,
    Gone,
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

REMEMBERED = 50_000
"""Blocks of which it is remembered how they were stored, so that reading them asks no database."""
RECORDS_SHARE = 8
"""The database takes at most this part of the limit; small records make way beyond it."""


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
class Changes:
    """What is to be done, in this order: `drop` lineages, note the times of use in `used`, set `records` (None
    deletes)."""

    drop: set[bytes] = field(default_factory=set)
    used: Mapping[Place, float] = field(default_factory=dict)
    records: Mapping[str, bytes | None] = field(default_factory=dict)


class DamagedBlock(Damaged):
    """A block that must not be used; `checksum` is the one that its record has, `gone` says that it is not there."""

    def __init__(self, trouble: Damaged, checksum: int) -> None:
        super().__init__(str(trouble))
        self.checksum = checksum
        self.gone = isinstance(trouble, Gone)


class _Edit:
    """Groups that are changed within one transaction; `wipe` deletes one that cannot be read."""

    def __init__(self, records: Records, wipe: Callable[[str], None]) -> None:
        self._records = records
        self._wipe = wipe
        self._groups: dict[GroupKey, Group] = {}
        self._changed: set[GroupKey] = set()

    def group(self, place: Place) -> Group:
        key = group_of(place)
        if key not in self._groups:
            try:
                self._groups[key] = self._records.group(key)
            except Damaged:
                self._wipe(record_key(key))
                self._groups[key] = {}
        return self._groups[key]

    def get(self, place: Place) -> Stored | None:
        return self.group(place).get(place[1])

    def set(self, place: Place, stored: Stored | None) -> None:
        group = self.group(place)
        if stored is None:
            group.pop(place[1], None)
        else:
            group[place[1]] = stored
        self._changed.add(group_of(place))

    def save(self) -> None:
        for key in self._changed:
            self._records.set_group(key, self._groups[key])
        self._groups.clear()
        self._changed.clear()


class Ledger:
    """The blocks in one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.records = Records(directory)
        self.files = DataFiles(directory)
        self._remembered: dict[bytes, Group] = {}
        self._count = 0

    # --- reading ----------------------------------------------------------------------------------------------

    def read(self, place: Place) -> Block | None:
        """A block; None when there is none. Raises `DamagedBlock`, and `Damaged` for a record that cannot be read."""
        remembered = self._remembered.get(place[0], {}).get(place[1])
        if remembered is not None:
            try:
                return self.files.read(place, remembered)
            except Damaged:
                pass  # perhaps it made way, or was stored anew
        before, trouble = None, Damaged("")
        for look in (self._find, self._find_settled):
            stored = look(place)
            if stored is None or not stored.extents:
                return None
            if stored != before:
                try:
                    return self.files.read(place, stored)
                except Damaged as error:
                    trouble = error
            before = stored
        raise DamagedBlock(trouble, before.checksum if before is not None else 0)

    def index(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage: index → valid bytes."""
        found: Group = {}
        for group in self.records.groups(lineage):
            found.update(group)
        self._remember(lineage, found)
        return {index: stored.valid for index, stored in found.items() if stored.extents}

    def lineages(self) -> dict[bytes, tuple[int, int]]:
        """Every lineage with its count of blocks and the valid bytes in them. Reads all groups."""
        found: dict[bytes, tuple[int, int]] = {}
        for lineage, blocks, valid in self.records.counts():
            if blocks:
                count, total = found.get(lineage, (0, 0))
                found[lineage] = count + blocks, total + valid
        return found

    def _find(self, place: Place) -> Stored | None:
        group = self.records.group(group_of(place))
        self._remember(place[0], group)
        return group.get(place[1])

    def _find_settled(self, place: Place) -> Stored | None:
        """As `_find`, while nobody is between giving bytes back and deleting their record."""
        with self.records.transaction():
            return self._find(place)

    def _remember(self, lineage: bytes, group: Group) -> None:
        if self._count > REMEMBERED:
            self._remembered, self._count = {}, 0
        before = self._remembered.get(lineage, {})
        self._remembered[lineage] = after = {**before, **group}
        self._count += len(after) - len(before)

    # --- changing ---------------------------------------------------------------------------------------------

    def begin(
        self, changes: Changes, entries: Iterable[Entry], limit: int
    ) -> tuple[list[Entry], list[Place]]:
        """Make all of `changes`, and room for blocks; those for which there is room now, and what made way."""
        gone: list[Place] = []
        fitting: list[Entry] = []
        with self.records.transaction():
            self._change(changes)
            entries = list(entries)
            self._trim(limit // RECORDS_SHARE)
            edit = _Edit(self.records, self._wipe)
            need = sum(self._needs(edit, entry)[1] for entry in entries)
            while entries and need > (room := limit - self.records.usage()):
                freed, some = self._evict(need - room)
                if not freed:
                    break
                gone += some
                edit = _Edit(self.records, self._wipe)
                need = sum(self._needs(edit, entry)[1] for entry in entries)
            room = limit - self.records.usage()
            now = time.time()
            for entry in entries:
                size, more = self._needs(edit, entry)
                if more <= room:
                    room -= more
                    stored = edit.get(entry.place) or Stored(entry.block.capacity, (), 0, 0, now)
                    edit.set(entry.place, replace(stored, size=size, used=now))
                    fitting.append(entry)
            edit.save()
        return fitting, gone

    def finish(self, entries: Iterable[Entry], checksums: Mapping[Place, int]) -> dict[Place, int]:
        """Note the blocks that were written, with their checksums, and give back the room of the others; the valid
        bytes of those that are kept."""
        kept: dict[Place, Stored] = {}
        with self.records.transaction():
            edit = _Edit(self.records, self._wipe)
            for entry in entries:
                place, stored = entry.place, edit.get(entry.place)
                checksum = checksums.get(place)
                if stored is None:  # it made way while it was written
                    self._give_back(place, edit.group(place))
                elif checksum is not None:
                    kept[place] = replace(
                        stored, capacity=entry.block.capacity, extents=entry.extents, checksum=checksum
                    )
                    edit.set(place, kept[place])
                elif not stored.extents:
                    edit.set(place, None)
                    self._give_back(place, edit.group(place))
                else:
                    edit.set(place, replace(stored, size=allocated(stored.extents)))
            edit.save()
        for (lineage, index), stored in kept.items():
            self._remembered.setdefault(lineage, {})[index] = stored
        self._count += len(kept)
        return {place: stored.valid for place, stored in kept.items()}

    def forget(self, place: Place, checksum: int) -> None:
        """Drop a block that is damaged, as long as its record has that checksum."""
        with self.records.transaction():
            edit = _Edit(self.records, self._wipe)
            stored = edit.get(place)
            if stored is not None and stored.checksum == checksum:
                edit.set(place, None)
                self._give_back(place, edit.group(place))
            edit.save()

    def wipe(self, key: str) -> None:
        """Delete a record that cannot be read, and the blocks of which it told."""
        with self.records.transaction():
            self._wipe(key)

    def evict(self, count: int) -> list[Place]:
        """Delete the blocks least recently used, none that is pinned, until `count` bytes of them are gone. Fewer, or
        none, when only pinned ones are left."""
        gone: list[Place] = []
        while count > 0:
            with self.records.transaction():
                freed, some = self._evict(min(count, 64 * BLOCK))  # nobody waits for more than that
            if not freed:
                break
            gone += some
            count -= freed
        return gone

    def sweep(self) -> Iterator[None]:
        """Delete data files of which there is no record, a directory with each step: a power cut may lose records."""
        for first in range(256):
            directory = self.files.path(bytes([first])).parent
            names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
            for name in names:
                if re.fullmatch(r"[0-9a-f]{32}", name) and not self.records.has(bytes.fromhex(name)):
                    with self.records.transaction():
                        if not self.records.has(bytes.fromhex(name)):
                            self.files.remove(bytes.fromhex(name))
            yield

    # --- within a transaction ---------------------------------------------------------------------------------

    def _change(self, changes: Changes) -> None:
        for lineage in changes.drop:
            self.files.remove(lineage)
            self.records.drop(lineage)
            self._remembered.pop(lineage, None)
        edit = _Edit(self.records, self._wipe)
        for place, when in changes.used.items():
            stored = edit.get(place)
            if stored is not None and stored.used < when:
                edit.set(place, replace(stored, used=when))
        edit.save()
        for key, value in changes.records.items():
            if value is None:
                self.records.delete(key)
            else:
                self.records.set(key, value)

    @staticmethod
    def _needs(edit: _Edit, entry: Entry) -> tuple[int, int]:
        """Bytes of the disk that a block takes at most once it is written, and how many more than now."""
        stored = edit.get(entry.place)
        if stored is None:
            return (size := allocated(entry.extents)), size
        size = max(stored.size, allocated(tuple(sorted((*stored.extents, *entry.extents)))))
        return size, size - stored.size

    def _evict(self, count: int) -> tuple[int, list[Place]]:
        """Make `count` bytes of room if that can be; the bytes, and the blocks that made way."""
        gone: list[Place] = []
        freed = 0
        while freed < count and (keys := self.records.least_used(16)):
            for key in keys:
                if freed < count:
                    freed += self._evict_from(key, count - freed, gone)
        return freed, gone

    def _evict_from(self, key: str, count: int, gone: list[Place]) -> int:
        """Delete blocks of a group until `count` bytes are gone, all if need be; the bytes, 1 at least."""
        parsed = parse_key(key)
        try:
            group = self.records.group(parsed) if parsed is not None else {}
        except Damaged:
            group = {}
        if parsed is None or not group:
            self._wipe(key)
            return 1
        lineage, _ = parsed
        if not self.files.punches:
            return self._evict_file(lineage, gone)
        freed = 0
        for index in sorted(group, key=lambda index: (group[index].used, index)):
            if freed >= count:
                break
            if len(group) > 1 and not self.files.punch(lineage, index * BLOCK, BLOCK):
                return self._evict_file(lineage, gone)
            freed += group.pop(index).size
            gone.append((lineage, index))
        if group:
            self.records.set_group(parsed, group)
        else:
            self._wipe(key)
        return max(freed, 1)

    def _evict_file(self, lineage: bytes, gone: list[Place]) -> int:
        """Delete a whole lineage, where a part of a file cannot be given back."""
        freed = 0
        for group in self.records.groups(lineage):
            gone += [(lineage, index) for index in group]
            freed += sum(stored.size for stored in group.values())
        self.files.remove(lineage)
        self.records.drop(lineage)
        return max(freed, 1)

    def _wipe(self, key: str) -> None:
        """Delete a record, and what a group has in its data file."""
        self.records.delete(key)
        parsed = parse_key(key)
        if parsed is not None:
            lineage, number = parsed
            if not self.records.has(lineage):
                self.files.remove(lineage)
            else:
                self.files.punch(lineage, number * GROUP * BLOCK, GROUP * BLOCK)

    def _give_back(self, place: Place, left: Group) -> None:
        """Give back the bytes of a block that has no record any more; `left` is what its group still has."""
        lineage, index = place
        if left or self.records.has(lineage, beside=group_of(place)):
            self.files.punch(lineage, index * BLOCK, BLOCK)
        else:
            self.files.remove(lineage)

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
