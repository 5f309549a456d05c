"""The cache's database, as a file: made, looked at before it is trusted, and what its errors mean.

Thread-safety: all functions may be called on any thread but the event loop's.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import diskcache

from vfs.base.errors import ArtisyncError

BUSY_SECONDS = 4.0
"""The longest wait for the transactions of other processes."""
ATTEMPT_SECONDS = 0.1
"""The longest of it while other threads wait, too."""

DATABASE = "cache.db"
ROW_FORMAT = 6
"""SQLite's `user_version` of a database that this module understands."""

PRAGMAS = {
    "sqlite_auto_vacuum": 1,  # what is deleted shortens the file: it counts as part of the cache
    "sqlite_cache_size": -2000,  # 2 MB for each thread
    "sqlite_journal_mode": "wal",
    "sqlite_journal_size_limit": 1 << 20,  # bytes: the log counts as part of the cache
    "sqlite_mmap_size": 0,  # a database that is cut short under a mapping would kill us with SIGBUS
    "sqlite_synchronous": 1,  # a power cut may lose the last rows, never break the database
    "sqlite_wal_autocheckpoint": 256,  # pages
}
_SETTINGS = {*PRAGMAS, *diskcache.DEFAULT_SETTINGS, "count", "size", "hits", "misses"}


class ForeignDatabase(ArtisyncError):
    """The database was written by another version of artisync, or is none."""


class DatabaseBusy(ArtisyncError):
    """Another process has kept the database locked for too long."""


TROUBLE = (OSError, sqlite3.Error, DatabaseBusy, ForeignDatabase)
"""What may be raised where a cache's disk is used."""

_KINDS = {
    "busy": (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    # SQLITE_ERROR: a table or column is not there
    "corrupt": (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR),
    "full": (sqlite3.SQLITE_FULL,),
    "refused": (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
    "gone": (sqlite3.SQLITE_CANTOPEN,),
}
_CODES = {code: kind for kind, codes in _KINDS.items() for code in codes}
_ERRNOS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "refused"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "gone"),
}


def cause_of(error: BaseException | None) -> str:
    """The kind of trouble: full, refused, gone, busy, corrupt, foreign, failing."""
    if isinstance(error, DatabaseBusy):
        return "busy"
    if isinstance(error, ForeignDatabase):
        return "foreign"
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno or 0, "failing")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return "failing"
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return "corrupt" if code == sqlite3.SQLITE_IOERR_SHORT_READ else _CODES.get(code & 0xFF, "failing")


def create(path: Path) -> None:
    """Make an empty database for this user alone, unless there is one.

    One that is there is not opened: closing it again would drop every lock that SQLite holds on it in this
    process (fcntl(2)), and another process would then take its log away under us.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not size(str(path)):
            raise sqlite3.DatabaseError("it is empty") from None


def check(path: Path) -> None:
    """Look at the database before diskcache does, which would wait for a minute, and trust what it finds."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not tables and version == 0:
            connection.execute("PRAGMA auto_vacuum = 1")  # not to be changed once there is a page
        connection.execute("BEGIN IMMEDIATE")
        if not tables and version == 0:
            connection.execute(f"PRAGMA user_version = {ROW_FORMAT}")
        elif version != ROW_FORMAT:
            raise ForeignDatabase("it was written by another version of artisync")
        elif tables and not _known(connection, tables):
            raise ForeignDatabase("it holds what artisync does not write")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if cause_of(error) == "busy":
            raise DatabaseBusy("another process keeps the cache's database locked") from error
        raise
    finally:
        connection.close()


def _known(connection: sqlite3.Connection, tables: Iterable[str]) -> bool:
    if not set(tables) <= {"Settings", "Cache"} or "Settings" not in tables:
        return False
    return {key for (key,) in connection.execute("SELECT key FROM Settings")} <= _SETTINGS


def inode(path: Path) -> tuple[int, int] | None:
    """Device and inode number of a file with something in it; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_size else None


def size(path: str) -> int:
    """Bytes of a file; 0 when it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
