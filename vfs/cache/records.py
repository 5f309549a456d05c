"""The cache's database: diskcache over SQLite, with nothing pickled, and told in which order its records may go.

Every value is bytes with a checksum in front. Keys are text: `b:LINEAGE:INDEX` for blocks (`rows.py`), tagged with their lineage;
anything else for small records. diskcache's `get`, `set`, `evict`, `clear` and `transact` do the work; `_rows` what they cannot:
many blocks at once, a prefix, a tag, and what was used least recently.

diskcache's expiry time serves as the order: a block expires a century after it was last used, a small record that may
go a century later; pins and the blocks of what is pinned never.

Thread-safety: `Records` may be used on any thread, which has a connection of its own by diskcache and SQLite to itself
meanwhile (`fork_gate.py`), and by several processes. Not on the event loop's thread.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import diskcache
from diskcache.core import MODE_RAW

from vfs.cache import database, fork_gate
from vfs.cache.database import DATABASE, DatabaseBusy, cause_of
from vfs.cache.rows import Damaged, Place, Stored, block_key, pack, parse_key, unpack

CENTURY = 3_155_760_000.0
"""Seconds by which nothing really expires."""
PEEK_SECONDS = 0.1
"""The longest that `peek` waits for a process that is just changing the database."""
PINS = ("p:", "pin:")
"""How the names of records begin that say what is pinned: lineages, and paths."""
_OURS = f"raw = 1 AND mode = {MODE_RAW} AND filename IS NULL AND typeof(size) = 'integer'"
_SIZE = "CAST(size AS INTEGER)"
"""A row that artisync did not write may have anything for its size."""


class _Disk(diskcache.Disk):
    """Keys are text, values bytes. Whatever asks for unpickling is refused unread (CVE-2025-69872), whatever names a
    file is left alone."""

    def __init__(self, directory: str, **_settings: object) -> None:
        self._directory = directory

    def put(self, key: str) -> tuple[str, bool]:
        return key, True

    def get(self, key: object, raw: object) -> str:
        if raw and isinstance(key, str):
            return key
        raise Damaged("a key that is not text")

    def store(self, value: bytes, read: bool, key: object = None) -> tuple[int, int, str | None, bytes]:
        return 0, MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        if mode == MODE_RAW and filename is None and isinstance(value, bytes):
            return value
        raise Damaged("a row that artisync did not write")

    def remove(self, file_path: object) -> None:
        pass


class Records:
    """One open database. Every method raises sqlite3.DatabaseError as SQLite does (OperationalError for a
    full or failing disk), and `DatabaseBusy`."""

    def __init__(self, directory: Path) -> None:
        """Open or make the database in `directory`, which must be there. Raises also `ForeignDatabase`,
        OSError."""
        path = directory / DATABASE
        self.path = path
        database.create(path)
        untyped: Any = diskcache.Cache
        with fork_gate.held_off():
            database.check(path)
            self._cache: Any = untyped(
                str(directory),
                timeout=database.ATTEMPT_SECONDS,
                disk=_Disk,
                eviction_policy="none",
                cull_limit=0,
                size_limit=1 << 60,
                statistics=0,
                tag_index=1,
                **database.PRAGMAS,
            )
        self._inode = database.inode(path)

    def close(self) -> None:
        """Close this thread's connection; the other threads' close when the object is gone."""
        with fork_gate.held_off():
            self._cache.close()

    def check(self) -> None:
        """Read the whole database. One that is not sound is closed, and sqlite3.DatabaseError raised."""
        try:
            ((answer,),) = self._rows("PRAGMA quick_check(1)")
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
        except sqlite3.DatabaseError:
            self.close()
            raise

    @property
    def gone(self) -> bool:
        """Whether the database is no longer where it was: somebody deleted, replaced or emptied it."""
        return self._inode is None or database.inode(self.path) != self._inode

    def filled_bytes(self) -> int:
        """Bytes of the database in which something is; the rest is used again."""
        pages = "pragma_page_count, pragma_freelist_count, pragma_page_size"
        ((count,),) = self._rows(f"SELECT (page_count - freelist_count) * page_size FROM {pages}")
        return int(count)

    def usage(self) -> int:
        """Bytes on the disk: data files and the database."""
        return self.data_bytes() + sum(database.size(f"{self.path}{end}") for end in ("", "-wal", "-shm"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed in the block is kept, or nothing. Nobody else changes anything meanwhile."""
        end = time.monotonic() + database.BUSY_SECONDS
        while True:
            with ExitStack() as stack:
                stack.enter_context(fork_gate.held_off())
                try:
                    stack.enter_context(self._cache.transact())
                except diskcache.Timeout as timeout:
                    # diskcache calls any failure to begin a time-out; SQLite's own words say which it was.
                    cause = timeout.__context__
                    if isinstance(cause, sqlite3.OperationalError) and cause_of(cause) != "busy":
                        raise cause from None
                else:
                    yield
                    return
            if time.monotonic() >= end:
                raise DatabaseBusy("another process keeps the cache's database locked")
            time.sleep(0.001)  # other threads of ours come in between

    # --- records --------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """A value. Raises `Damaged` when the checksum is wrong or the row is not one of ours."""
        with fork_gate.held_off():
            return unseal(key, self._cache.get(key))

    def set(self, key: str, value: bytes) -> None:
        """Keep a small record. In a transaction, as all that changes something."""
        expire = None if key.startswith(PINS) else 2 * CENTURY
        self._cache.set(key, seal(key, value), expire=expire)
        self._pin(key, None)

    def _pin(self, key: str, expire: float | None) -> None:
        """The blocks of a lineage are pinned by `key`, or not any more."""
        if key.startswith(PINS[0]):
            self._rows("UPDATE Cache SET expire_time = ? WHERE tag = ?", (expire, key[2:]))

    def delete(self, *keys: str) -> None:
        """Delete records of whatever kind, sound or not; diskcache would leave one that has expired, which none of ours has."""
        self._many("DELETE FROM Cache WHERE key = ? AND raw = 1", [(key,) for key in keys])
        for key in keys:
            self._pin(key, _order())

    def _pinned(self, lineage: bytes) -> bool:
        return bool(self._rows("SELECT 1 FROM Cache WHERE key = ? AND raw = 1", (lineage_pin(lineage),)))

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The sound records whose keys begin with `prefix`."""
        # Where most records are meant, looking up one by one what the index names takes three times as long.
        how = "NOT INDEXED" if prefix == "f:" else ""
        query = f"SELECT key, value FROM Cache {how} WHERE key >= ? AND key < ? AND {_OURS}"
        for key, value in self._rows(query, _between(prefix)):
            with suppress(Damaged):
                yield key, unseal(key, value) or b""

    def all_keys(self) -> list[str]:
        """Every key."""
        return [key for (key,) in self._rows("SELECT key FROM Cache") if isinstance(key, str)]

    def oldest(self, count: int) -> list[tuple[str, bytes]]:
        """The small records that were set least recently, pins apart; `count` of them at most."""
        what = "SELECT key, CAST(value AS BLOB) FROM Cache WHERE expire_time >= ? AND raw = 1"
        rows = self._rows(f"{what} ORDER BY expire_time LIMIT ?", (2 * CENTURY, count))
        return [(key, value or b"") for key, value in rows]

    def clear(self, *, in_use: bool) -> None:
        """Delete every record, or with `in_use` only pins and blocks, and give the database's room back."""
        with self.transaction():
            if not in_use:
                self._cache.clear()
            for prefix in ("b:", *PINS):
                self._rows("DELETE FROM Cache WHERE key >= ? AND key < ? AND raw = 1", _between(prefix))
        try:
            self._rows("VACUUM")
            self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            pass  # another process is reading: its room is used again instead

    # --- blocks -----------------------------------------------------------------------------------------------

    def blocks(self, lineage: bytes) -> dict[Place, Stored]:
        """What there is of a lineage."""
        query = f"SELECT key, value, size FROM Cache WHERE tag = ? AND {_OURS}"
        return dict(_sound(self._rows(query, (lineage.hex(),))))

    def stored(self, places: Iterable[Place]) -> dict[Place, Stored]:
        """How blocks are stored, of those that are, or are reserved."""
        keys = [block_key(place) for place in places]
        query = f"SELECT key, value, size FROM Cache WHERE key IN ({','.join('?' * len(keys))}) AND {_OURS}"
        return dict(_sound(self._rows(query, keys)))

    def reserve(self, sizes: Mapping[Place, int]) -> None:
        """Count the bytes that blocks may take once they are written."""
        self._put([(place, _order(), size, b"") for place, size in sizes.items()], "size = excluded.size")

    def set_blocks(self, blocks: Mapping[Place, Stored]) -> None:
        """Note how blocks are stored, which are used now."""
        pinned = {of: self._pinned(of) for of in {lineage for lineage, _ in blocks}}
        rows = [
            (place, None if pinned[place[0]] else _order(), one.size, seal(block_key(place), pack(one)))
            for place, one in blocks.items()
        ]
        self._put(rows, "value = excluded.value, size = excluded.size, expire_time = excluded.expire_time")

    def _put(self, rows: Sequence[tuple[Place, float | None, int, bytes]], change: str) -> None:
        """Insert rows (block, expiry time, size, value), or make a `change` to those that there are."""
        values = [value for place, *rest in rows for value in (block_key(place), place[0].hex(), *rest)]
        if rows:  # one statement: one for each row takes 8 ms per GiB more
            one = f"(?, ?, ?, ?, ?, 1, {MODE_RAW})"
            self._rows(
                "INSERT INTO Cache (key, tag, expire_time, size, value, raw, mode)"
                f" VALUES {','.join([one] * len(rows))} ON CONFLICT (key, raw) DO UPDATE SET {change}",
                values,
            )

    def unset(self, keys: Iterable[str]) -> None:
        """Empty the records of these blocks. They count until `forget`."""
        self._many("UPDATE Cache SET value = x'' WHERE key = ? AND raw = 1", [(key,) for key in keys])

    def forget(self, keys: Iterable[str]) -> None:
        """Delete those of these records that are empty."""
        query = "DELETE FROM Cache WHERE key = ? AND raw = 1 AND value = x''"
        self._many(query, [(key,) for key in keys])

    def touch(self, used: Mapping[Place, float]) -> None:
        """Note when blocks were used (seconds since 1970)."""
        query = "UPDATE Cache SET expire_time = max(expire_time, ?) WHERE key = ? AND raw = 1"
        self._many(query, [(when + CENTURY, block_key(place)) for place, when in used.items()])

    def data_bytes(self) -> int:
        """Bytes of data files that all records stand for."""
        with fork_gate.held_off():
            return int(self._cache.reset("size"))

    def sizes(self) -> dict[bytes, int]:
        """Every lineage with the bytes of data files that its records stand for."""
        # by the index on tags, each row would be looked up by itself
        query = "SELECT tag, SUM(size) FROM Cache NOT INDEXED WHERE tag IS NOT NULL GROUP BY tag"
        found = {}
        for tag, size in self._rows(query):
            with suppress(ValueError, TypeError):  # a row that artisync did not write
                found[bytes.fromhex(tag)] = int(size)
        return found

    def has(self, lineage: bytes) -> bool:
        """Whether a block of a lineage has a record that is not empty."""
        return bool(
            self._rows("SELECT 1 FROM Cache WHERE tag = ? AND value != x'' LIMIT 1", (lineage.hex(),))
        )

    def sizes_in(self, lineage: bytes) -> dict[str, int]:
        """The keys of all blocks of a lineage, with the bytes that they stand for."""
        query = f"SELECT key, {_SIZE} FROM Cache WHERE tag = ? AND raw = 1"
        return dict(self._rows(query, (lineage.hex(),)))

    def oldest_blocks(self, count: int, leave: Collection[str]) -> dict[str, int]:
        """The blocks used least recently that take `count` bytes or a little more, by their keys, and how many; none that is
        pinned or in `leave`."""
        found: dict[str, int] = {}
        query = f"SELECT key, {_SIZE} FROM Cache WHERE expire_time < ? AND raw = 1 ORDER BY expire_time"
        with fork_gate.held_off():
            for key, size in self._cache._sql(query, (2 * CENTURY,)) if count > 0 else ():
                if key not in leave:
                    found[key] = size
                    count -= max(size, 1)
                    if count <= 0:
                        break
        return found

    # --- below ----------------------------------------------------------------------------------------------

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """What one statement gives."""
        with fork_gate.held_off():
            found: list[Any] = self._cache._sql(query, values).fetchall()
            return found

    def _many(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Have one statement change a row for each of `rows`."""
        with fork_gate.held_off():
            self._cache._con.executemany(query, rows)


def peek(directory: Path, key: str) -> bytes | None:
    """A record of a cache that others may be using, read without a trace: nothing is made, locked, written or repaired. None when
    there is none, or it cannot be had for whatever reason. Any thread."""
    uri = f"file:{quote(str(directory / DATABASE), errors='surrogateescape')}?mode=ro"
    query = f"SELECT value FROM Cache WHERE key = ? AND {_OURS}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=PEEK_SECONDS)) as connection:
            row = connection.execute(query, (key,)).fetchone()
        return unseal(key, row[0]) if row is not None else None
    except (sqlite3.Error, Damaged):
        return None


def lineage_pin(lineage: bytes) -> str:
    """The key of the record that keeps a lineage from being evicted, by whichever process; its value says for whom."""
    return f"p:{lineage.hex()}"


def _sound(rows: Iterable[tuple[object, object, int]]) -> Iterator[tuple[Place, Stored]]:
    """The blocks whose rows are what was written."""
    for key, value, size in rows:
        place = parse_key(key)
        if place is not None:
            with suppress(Damaged):
                yield place, unpack(unseal(block_key(place), value) or b"", size)


def _order() -> float:
    """The expiry time of a block that is used now."""
    return time.time() + CENTURY


def _between(prefix: str) -> tuple[str, str]:
    return prefix, prefix + "\U0010ffff"


def seal(key: str, value: bytes) -> bytes:
    """A value with a checksum of it and its key in front."""
    return _checksum(key, value) + value


def unseal(key: str, found: object) -> bytes | None:
    """What a record's row holds, without its checksum; None for no row, or one that says nothing. Raises `Damaged`."""
    if found is None or found == b"":
        return None
    if isinstance(found, bytes):
        value = found[4:]
        if found.startswith(_checksum(key, value)):
            return value
    raise Damaged("a record's checksum is wrong")


def _checksum(key: str, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key.encode("utf-8", "surrogatepass"))).to_bytes(4, "little")
