"""The cache's rows: diskcache over SQLite, with nothing pickled, and evictions of our own.

A block's row names its file (`files.py` reads and writes it) and counts its valid bytes; a record's row holds
its value with a checksum. Keys are text: `b:LINEAGE:INDEX` for blocks (`names.py`), anything else for records;
the tag of a block's row is its lineage. Several rows may name one file, whose blocks are used and evicted
together. A file is deleted *before* the last of its rows is, in the transaction that deletes those: a row
without a file is a miss, a file without a row would be a leak. So a file may be gone while its row is still to
be seen; who must know whether it is lost asks again with `find_settled`.

Thread-safety: `Rows` may be used on any thread (diskcache holds a connection per thread) and by several
processes; no call waits for a lock of the database longer than `database.BUSY_SECONDS`. Not on the event loop's
thread.
"""

from __future__ import annotations

import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW

from vfs.cache import database, fork_gate
from vfs.cache.database import DATABASE, DatabaseBusy, is_busy
from vfs.cache.files import Damaged
from vfs.cache.keys import is_block_name, keys_in, parse_key

_PIECE = 128
"""Rows that one transaction deletes, and their files with them."""
_PINNED = "SELECT substr(key, 3) FROM Cache WHERE key >= 'p:' AND key < 'p;'"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a block lies: its file below the cache directory, the bytes that it takes and the valid ones in
    it."""

    name: str
    size: int
    valid: int


@dataclass(slots=True)
class Changes:
    """What is to be done, in this order: `drop` lineages, delete `bad` rows as long as they name that file (None:
    whatever they name), store `blocks`, set `records` (None deletes), note the times of use in `used`."""

    drop: set[str] = field(default_factory=set)
    bad: Mapping[str, str | None] = field(default_factory=dict)
    blocks: Mapping[str, Stored] = field(default_factory=dict)
    records: Mapping[str, bytes | None] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)


class _Disk(diskcache.Disk):
    """Keys are text, values bytes or `Stored`. Whatever asks for unpickling is refused unread
    (CVE-2025-69872)."""

    def __init__(self, directory: str, **_settings: object) -> None:
        self._directory = directory

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError(f"a key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if raw and isinstance(key, str):
            return key
        raise Damaged("a key that is not text")

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str | None, object]:
        if isinstance(value, Stored):
            return value.size, MODE_BINARY, value.name, value.valid
        if isinstance(value, bytes) and not read:
            return 0, MODE_RAW, None, sqlite3.Binary(value)
        raise TypeError(f"a value must be bytes, not {type(value).__name__}")

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> Stored | bytes:
        if mode == MODE_BINARY and is_block_name(filename) and isinstance(value, int):
            return Stored(str(filename), 0, value)
        if mode == MODE_RAW and filename is None and isinstance(value, bytes):
            return value
        raise Damaged("a row that artisync did not write")

    def remove(self, file_path: object) -> None:
        if is_block_name(file_path):
            try:
                os.unlink(os.path.join(self._directory, str(file_path)))
            except OSError:
                pass


class Rows:
    """One open database. Every method raises sqlite3.DatabaseError as SQLite does (OperationalError for a
    full or failing disk), and `DatabaseBusy`."""

    def __init__(self, directory: Path) -> None:
        """Open or make the database in `directory`, which must be there. Raises also `ForeignDatabase`,
        OSError."""
        path = directory / DATABASE
        self.path = path
        self._directory = directory
        database.create(path)
        untyped: Any = diskcache.Cache
        with fork_gate.held_off():
            database.check(path)
            self._cache: Any = untyped(
                str(directory),
                timeout=database.BUSY_SECONDS,
                disk=_Disk,
                eviction_policy="none",
                cull_limit=0,
                size_limit=1 << 60,
                statistics=0,
                tag_index=1,
                **database.PRAGMAS,
            )
        self._rows(
            "CREATE INDEX IF NOT EXISTS Cache_block_access ON Cache(access_time) WHERE filename IS NOT NULL"
        )
        self._inode = database.inode(path)

    def close(self) -> None:
        """Close this thread's connection; the other threads' close when the object is gone."""
        with fork_gate.held_off():
            self._cache.close()

    def check(self) -> None:
        """Read the whole database. Raises sqlite3.DatabaseError when it is not sound."""
        ((answer,),) = self._rows("PRAGMA quick_check(1)")
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)

    @property
    def gone(self) -> bool:
        """Whether the database is no longer where it was: somebody deleted, replaced or emptied it."""
        return self._inode is None or database.inode(self.path) != self._inode

    def usage(self) -> int:
        """Bytes on the disk: block files and the database."""
        own = sum(database.size(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        with fork_gate.held_off():
            return int(self._cache.reset("size")) + own

    # --- blocks ---------------------------------------------------------------------------------------------

    def find(self, key: str) -> Stored | None:
        """Where a block lies. Raises `Damaged` for a row that is not one of ours."""
        found = self._get(key)
        if found is None or isinstance(found, Stored):
            return found
        raise Damaged("a block's row without a file")

    def find_settled(self, key: str) -> Stored | None:
        """As `find`, while nobody is between deleting a file and its row. Takes the database's lock."""
        with self._transaction():
            return self.find(key)

    def index(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage: index → valid bytes."""
        query = "SELECT key, value FROM Cache WHERE tag = ? AND filename IS NOT NULL"
        rows = self._rows(query, (lineage.hex(),))
        blocks = ((parse_key(key), value) for key, value in rows)
        return {place[1]: value for place, value in blocks if place is not None and isinstance(value, int)}

    def lineages(self) -> dict[bytes, tuple[int, int]]:
        """Every lineage with its count of blocks and the valid bytes in them. Reads the whole index."""
        query = "SELECT tag, COUNT(*), SUM(value) FROM Cache WHERE filename IS NOT NULL GROUP BY tag"
        return {
            bytes.fromhex(tag): (int(count), int(total or 0))
            for tag, count, total in self._rows(query)
            if isinstance(tag, str) and re.fullmatch(r"[0-9a-f]{32}", tag)
        }

    def all_keys(self) -> Iterator[object]:
        """Every key, in pieces, so that no transaction is held open meanwhile."""
        last = 0
        while rows := self._rows(
            "SELECT rowid, key FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT 200", (last,)
        ):
            yield from (key for _, key in rows)
            last = rows[-1][0]

    def names(self, name: str) -> bool:
        """Whether a row names that block file."""
        where, values = _in_file(name)
        return bool(self._rows(f"SELECT 1 FROM Cache WHERE {where} LIMIT 1", values))

    def apply(self, changes: Changes) -> None:
        """All of `changes` but `drop` in one transaction, or nothing."""
        for tag in changes.drop:
            self._delete_in_pieces("tag = ? AND filename IS NOT NULL", (tag,))
        with self._transaction() as sql:
            for key, name in changes.bad.items():
                if name is None:
                    self._delete(sql, "key = ?", (key,))
                else:
                    self._delete(sql, "key = ? AND filename = ?", (key, name))
            for key, stored in changes.blocks.items():
                self._delete(sql, "key = ? AND raw = 1", (key,))  # diskcache would delete the file
                self._cache.set(key, stored, tag=key.split(":")[1])
            for key, value in changes.records.items():
                if value is None:
                    sql("DELETE FROM Cache WHERE key = ? AND filename IS NULL", (key,))
                else:
                    self._cache.set(key, _seal(key, value))
            times: dict[str, float] = {}
            for key, when in changes.used.items():
                for (name,) in sql("SELECT filename FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchall():
                    times[name] = max(when, times.get(name, 0.0))
            for name, when in times.items():
                where, values = _in_file(name)
                sql(f"UPDATE Cache SET access_time = ? WHERE {where}", (when, *values))

    def evict(self, count: int) -> list[tuple[str, str]]:
        """Delete the files least recently used, none that is pinned, until `count` bytes of them are gone; the
        key and file of each block. Fewer, or none, when only pinned ones are left; fewer also when another process
        keeps the database locked in the middle of it."""
        gone: list[tuple[str, str]] = []
        while count > 0:
            try:
                some = self._evict_some(count)
            except DatabaseBusy:
                if not gone:
                    raise
                break
            if not some:
                break
            gone += [(key, name) for key, name, _ in some]
            count -= sum(size for _, _, size in some)
        return gone

    def _evict_some(self, count: int) -> list[tuple[str, str, int]]:
        """A transaction of `evict`: key, file and size of each block."""
        gone: list[tuple[str, str, int]] = []
        with self._transaction() as sql:
            rows = sql(
                "SELECT rowid, filename FROM Cache WHERE filename IS NOT NULL"
                f" AND (tag IS NULL OR tag NOT IN ({_PINNED})) ORDER BY access_time LIMIT 64"
            ).fetchall()
            for rowid, name in rows:
                if count <= 0:
                    break
                where, values = _in_file(name)
                found = sql(
                    f"SELECT rowid, key, size FROM Cache WHERE rowid = ? OR {where}", (rowid, *values)
                ).fetchall()
                if found:  # else it went with a row before
                    self._cache.disk.remove(name)
                for each, key, size in found:
                    sql("DELETE FROM Cache WHERE rowid = ?", (each,))
                    gone.append((key, name, size))
                    count -= size
        return gone

    def clear(self, *, records: bool = True) -> None:
        """Delete every row and its file, in pieces, and give the database's room back. Without `records`, blocks
        and pins only."""
        self._delete_in_pieces(
            "1"
            if records
            else "(filename IS NOT NULL OR key >= 'p:' AND key < 'p;' OR key >= 'pin:' AND key < 'pin;')"
        )
        try:
            self._rows("VACUUM")
            self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            pass  # another process is reading: its room is used again instead

    # --- records --------------------------------------------------------------------------------------------

    def record(self, key: str) -> bytes | None:
        """A record's value. Raises `Damaged` when the checksum is wrong or the row is not one of ours."""
        return unseal(key, self._get(key))

    def records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The sound records whose keys begin with `prefix`, in order."""
        rows = self._rows(
            "SELECT key, value FROM Cache WHERE key >= ? AND key < ?"
            " AND filename IS NULL AND raw = 1 AND mode = ? ORDER BY key",
            (prefix, prefix + "\U0010ffff", MODE_RAW),
        )
        for key, value in rows:
            try:
                found = unseal(key, value)
            except Damaged:
                continue
            if found is not None:
                yield key, found

    def add(self, key: str, value: bytes) -> bytes:
        """Insert a record unless there is one; the one that is there then. A damaged one is replaced."""
        with self._transaction():
            try:
                found = self.record(key)
            except Damaged:
                found = None
            if found is None:
                self._cache.set(key, _seal(key, value))
        return value if found is None else found

    # --- below ----------------------------------------------------------------------------------------------

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """What one statement gives."""
        with fork_gate.held_off():
            found: list[Any] = self._cache._sql(query, values).fetchall()
            return found

    def _get(self, key: str) -> object:
        with fork_gate.held_off():
            return self._cache.get(key)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., Any]]:
        try:
            with fork_gate.held_off(), self._cache.transact():
                yield self._cache._sql
        except diskcache.Timeout as timeout:
            # diskcache calls any failure to begin a time-out; SQLite's own words say which it was.
            cause = timeout.__context__
            if isinstance(cause, sqlite3.OperationalError) and not is_busy(cause):
                raise cause from None
            raise DatabaseBusy("another process keeps the cache's database locked") from None

    def _delete(self, sql: Callable[..., Any], where: str, values: Sequence[object]) -> None:
        """Delete rows, and the files that no other row names."""
        for rowid, name in sql(f"SELECT rowid, filename FROM Cache WHERE {where}", values).fetchall():
            inside, names = _in_file(name)
            if not sql(f"SELECT 1 FROM Cache WHERE {inside} AND rowid != ?", (*names, rowid)).fetchall():
                self._cache.disk.remove(name)
            sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))

    def _delete_in_pieces(self, where: str, values: Sequence[object] = ()) -> None:
        """Delete rows and the files that they name; nobody has to wait for more than a piece of it. Rows of one
        file go together."""
        more = True
        while more:
            with self._transaction() as sql:
                query = f"SELECT rowid, filename FROM Cache WHERE {where} LIMIT {_PIECE}"
                rows = sql(query, values).fetchall()
                for rowid, name in rows:
                    self._cache.disk.remove(name)
                    inside, names = _in_file(name)
                    sql(f"DELETE FROM Cache WHERE rowid = ? OR {inside}", (rowid, *names))
            more = bool(rows)


def _in_file(name: object) -> tuple[str, tuple[object, ...]]:
    """The condition for the rows that name a file, and its values; by their keys, which have an index."""
    keys = keys_in(name)
    return f"(key IN ({', '.join('?' * len(keys))}) AND raw = 1 AND filename = ?)", (*keys, name)


def _seal(key: str, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key.encode(errors="surrogatepass"))).to_bytes(4, "little") + value


def unseal(key: str, found: object) -> bytes | None:
    """What a record's row holds, without its checksum; None for no row. Raises `Damaged`."""
    if found is None:
        return None
    if not isinstance(found, bytes) or _seal(key, found[4:]) != found:
        raise Damaged("a record's checksum is wrong")
    return found[4:]
