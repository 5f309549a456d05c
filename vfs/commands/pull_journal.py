"""What `pull` put into a directory of this machine: tells a file that is as we left it from one that was changed here.

For each directory a database, kept with the program's state and not in the directory. A row is written before the file
takes its place, so that after a kill at any moment each file is one that some row describes; another names the temporary
file, so that the next pull goes on with it or removes it. One process at a time writes into the copy of one experiment,
which a lock sees to.
"""

from __future__ import annotations

import enum
import fcntl
import functools
import hashlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfs.base import paths
from vfs.base.errors import DestinationBusy, StateUnusable
from vfs.base.file_version import Change, Version, classify
from vfs.base.places import state_dir
from vfs.commands.pull_dest import LocalEntry, PullDirectory

log = logging.getLogger(__name__)

_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS files (name, size, mtime_ns, lineage, growing_to, text);
CREATE INDEX IF NOT EXISTS by_name ON files (name);
CREATE TABLE IF NOT EXISTS begun (temporary PRIMARY KEY, name, size, mtime);
"""
"""`files`: how each was left, the newest row last. `begun`: temporary files, and what each is to become."""
_BUSY_SECONDS = 5.0
"""The longest wait for another pull into the directory that writes a row."""


class Action(enum.Enum):
    """What to do with one file."""

    SAME = "same"
    NEW = "new"
    GROW = "grow"
    """The file here is the beginning of the one on the server, if its bytes are of the same lineage."""
    REPLACE = "replace"
    KEEP = "keep"
    """It was changed here: it stays, unless `--overwrite` is given."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file as we left it: size in bytes, mtime in nanoseconds, the lineage of its bytes; or a symlink.

    `growing_to` is set while a tail is being appended: then any size in between is our own doing.
    """

    size: int
    mtime_ns: int
    lineage: str
    growing_to: int | None = None
    text: str | None = None
    """Where a symlink leads; the other fields mean nothing then."""

    def describes(self, found: LocalEntry) -> bool:
        """Whether the file is still as we left it."""
        if self.text is not None or not found.is_file:
            return self.text is not None and self.text == found.text
        status = found.stat
        if self.growing_to is not None:
            return self.size <= status.st_size <= self.growing_to
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def decide(found: LocalEntry | None, left: Left | None, version: Version, *, overwrite: bool) -> Action:
    """What to do with a file, given what is here (no directory), how we left it, and the server's version. Pure."""
    if found is None:
        return Action.NEW
    status = found.stat
    if found.is_file and left is not None and left.growing_to is not None:
        return Action.GROW if left.growing_to <= version.size else Action.REPLACE
    if found.is_file and (status.st_size, int(status.st_mtime)) == (version.size, version.mtime):
        return Action.SAME
    if left is None:
        return Action.REPLACE if overwrite else Action.KEEP
    was = Version(left.size, left.mtime_ns // 1_000_000_000)
    return Action.GROW if found.is_file and classify(was, version) is Change.GROWN else Action.REPLACE


class Pulled:
    """What was left in one directory. Names are relative to it; an experiment is the first word of a name.

    `with Pulled(directory) as pulled:` holds the locks of the experiments that were taken. All methods raise StateUnusable
    when nothing can be read or written there. Any thread, one at a time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._real = os.fsencode(os.path.realpath(directory))
        self._path = state_dir() / "pulls" / f"{_digest(self._real)}.db"
        self._taken: dict[bytes, int] = {}
        """The byte of the lock file that is locked for each experiment."""

    def __enter__(self) -> Pulled:
        try:
            paths.make_private(self._path.parent)
            self._lock = _lock_file(self._path.with_name("lock"))
            if not self._path.exists():
                os.close(_private(self._path))
        except OSError as error:
            raise StateUnusable(f"{self._path} cannot be written: {error.strerror}") from error
        self._open()
        return self

    def _open(self) -> None:
        for damaged in (False, True):
            self._database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
            try:
                self._database.executescript(_TABLES)
                return
            except sqlite3.Error as error:
                self._database.close()
                if damaged or isinstance(error, sqlite3.OperationalError):
                    raise StateUnusable(f"{self._path} cannot be written: {error}") from error
                log.warning("%s is begun anew: %s", self._path, error)
                for part in ("", "-wal", "-shm"):
                    Path(f"{self._path}{part}").unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._database.close()
        for byte in self._taken.values():
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, byte)
        _HELD.difference_update(self._taken.values())

    def take(self, name: str) -> None:
        """Lock the experiment that a name is in. Raises DestinationBusy when another pull is writing it here."""
        experiment = os.fsencode(name.partition("/")[0])
        if experiment in self._taken:
            return
        byte = int(_digest(self._real + b"/" + experiment), 16) >> 2
        try:
            if byte in _HELD:  # by this process, which no lock of its own keeps out
                raise BlockingIOError
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError) as error:
            place = self._directory / os.fsdecode(experiment)
            raise DestinationBusy(f"another pull is writing {place}") from error
        except OSError as error:
            raise StateUnusable(f"{self._path} cannot be locked: {error.strerror}") from error
        _HELD.add(byte)
        self._taken[experiment] = byte

    def left(self, name: str, found: LocalEntry) -> Left | None:
        """The state in which we left the file or symlink; None if `found` differs from it."""
        return next((left for left in self._lefts(name) if left.describes(found)), None)

    def knows(self, name: str) -> bool:
        """Whether a pull put a file or a symlink there once."""
        return bool(self._lefts(name))

    def note(self, name: str, left: Left) -> None:
        """Note that the file will be, or is, as `left` says. The row before counts, too, until the next one."""
        if left not in self._lefts(name)[:1]:
            self._add(name, left, keep=2)

    def settle(self, name: str, left: Left) -> None:
        """Note that the file is as `left` says."""
        self._add(name, left, keep=1)

    def forget(self, name: str) -> None:
        """Note that no file of ours is there any more."""
        self._do("DELETE FROM files WHERE name = ?", os.fsencode(name))

    def begin(self, temporary: str, name: str, version: Version | None) -> None:
        """Note that a temporary file will be made; with a version, the next pull may go on with it for `name`."""
        becomes = (None, None, None) if version is None else (os.fsencode(name), version.size, version.mtime)
        self._do("INSERT OR REPLACE INTO begun VALUES (?, ?, ?, ?)", os.fsencode(temporary), *becomes)

    def half(self, name: str, version: Version) -> str | None:
        """The unfinished temporary file of this version that a stopped pull left."""
        of = os.fsencode(name), version.size, version.mtime
        rows = self._do("SELECT temporary FROM begun WHERE name = ? AND size = ? AND mtime = ?", *of)
        return os.fsdecode(rows[0][0]) if rows else None

    def over(self, temporary: str) -> None:
        """Note that the temporary file is gone, or in its place."""
        self._do("DELETE FROM begun WHERE temporary = ?", os.fsencode(temporary))

    def clean(self, destination: PullDirectory) -> None:
        """Remove what stopped pulls left half-made in the experiments that were taken."""
        for (temporary,) in self._do("SELECT temporary FROM begun"):
            if temporary.partition(b"/")[0] in self._taken:
                try:
                    destination.remove(os.fsdecode(temporary))
                except OSError as error:
                    log.info("%r stays: %s", temporary, error)
                self.over(os.fsdecode(temporary))

    def _lefts(self, name: str) -> list[Left]:
        """The newest first."""
        select = (
            "SELECT size, mtime_ns, lineage, growing_to, text FROM files WHERE name = ? ORDER BY rowid DESC"
        )
        rows = self._do(select, os.fsencode(name))
        return [
            Left(size, mtime_ns, lineage, growing_to, None if text is None else os.fsdecode(text))
            for size, mtime_ns, lineage, growing_to, text in rows
        ]

    def _add(self, name: str, left: Left, *, keep: int) -> None:
        """Add a row, and remove those before the last `keep`."""
        key, text = os.fsencode(name), None if left.text is None else os.fsencode(left.text)
        row = key, left.size, left.mtime_ns, left.lineage, left.growing_to, text
        trim = "DELETE FROM files WHERE name = ? AND rowid NOT IN (SELECT rowid FROM files WHERE name = ? ORDER BY rowid DESC LIMIT ?)"
        with self._transaction() as database:
            database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute(trim, (key, key, keep))

    def _do(self, sql: str, *values: object) -> list[Any]:
        with self._transaction() as database:
            return database.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database:
                yield self._database
        except sqlite3.Error as error:
            raise StateUnusable(f"{self._path} cannot be written: {error}") from error


_HELD: set[int] = set()
"""The bytes of the lock file that this process has locked."""


@functools.cache
def _lock_file(path: Path) -> int:
    """Never closed: with the first descriptor of a file that a process closes, POSIX drops all its locks."""
    return _private(path)


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:16]


def _private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
