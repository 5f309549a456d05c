"""One opened cache directory: its rows, its block files and this process's place among them.

    cache.db            rows (`rows.py`), shared by all processes
    blocks/EPOCH/NNN/   block files (`files.py`, `epoch.py`)
    lock                held (flock) while a process opens or renews the database
    aside-*/            what is being deleted

Thread-safety: `read` on any thread but the event loop's, the rest on the cache's writer thread.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfs.base import paths
from vfs.cache.block import BLOCK, Block, Extent
from vfs.cache.database import DATABASE, DatabaseBusy, ForeignDatabase, is_corrupt
from vfs.cache.files import BlockFiles, Damaged
from vfs.cache.keys import block_key
from vfs.cache.lease import Epoch, set_aside, sweep
from vfs.cache.rows import Rows, Stored

log = logging.getLogger(__name__)

_OURS = (f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", "blocks", DATABASE)
"""In the order in which they are set aside: after a crash in between, the database is found wanting again."""
_STRANGE = (errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENXIO)
"""What opening a file gives that is not the one that we wrote."""
_LOCK_SECONDS = 2.0
"""The longest wait for another process that opens the cache just now."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A block that waits to be written: the ranges that were valid when it was handed over."""

    lineage: bytes
    index: int
    block: Block
    extents: tuple[Extent, ...]
    due: float
    footprint: int
    """Bytes of memory that the block took then."""

    @property
    def whole(self) -> bool:
        return self.extents == ((0, self.block.capacity),)

    @property
    def valid(self) -> int:
        return sum(last - first for first, last in self.extents)


class Store:
    """Raises OSError and sqlite3.DatabaseError as they come, `DatabaseBusy` when another process is in the
    way."""

    def __init__(self, directory: Path, rows: Rows) -> None:
        self.directory = directory
        self.rows = rows
        self.files = BlockFiles(directory)
        self._epoch = Epoch(directory)
        self._sweep: Iterator[None] | None = sweep(directory, self._epoch.id, self.rows.names)
        self.clean = True
        """Whether every file that was written here is known to have its row."""

    @classmethod
    def open(cls, directory: Path, *, renew: bool, doubtful: bool = False) -> Store:
        """Open a cache directory; what is missing is made, a corrupt database is set aside and made anew.

        `renew`: one of another version, too, else `ForeignDatabase` is raised. `doubtful`: read the whole
        database to see whether it is sound, since there was trouble with it.
        """
        _make(directory)
        with _locked(directory / "lock"):
            try:
                return cls(directory, _open_rows(directory, doubtful))
            except ForeignDatabase as error:
                if not renew:
                    raise
                reason = str(error)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                reason = f"its database is damaged ({error})"
            log.warning("the cache in %s is made anew: %s", directory, reason)
            set_aside(directory, _OURS)
            _make(directory)
            return cls(directory, _open_rows(directory, doubtful=False))

    def read(self, lineage: bytes, index: int) -> tuple[Block | None, str | None]:
        """A block, or None; and the file that its row names, if that is gone. Raises `Damaged`."""
        key = block_key(lineage, index)
        before = None
        while (stored := self.rows.find(key)) is not None:
            if stored.name == before:  # lost, unless somebody is deleting the row, too
                stored = self.rows.find_settled(key)
                if stored is None or stored.name == before:
                    break
            before = stored.name
            try:
                return self.files.read(stored.name, lineage, index), stored.name
            except FileNotFoundError:
                continue  # replaced just now: then the row names another
            except OSError as error:
                if error.errno not in _STRANGE:
                    raise
                raise DamagedFile(str(error), stored.name) from error
            except Damaged as error:
                raise DamagedFile(str(error), stored.name) from error
        return None, before if stored is not None else None

    def write(self, entries: Mapping[str, Entry], into: dict[str, Stored], longest: int) -> None:
        """Write block files of up to `longest` blocks, and note each block in `into`. Raises the first OSError,
        when all have been tried.

        Two threads: while one waits for the disk the other reckons a checksum.
        """
        jobs = [
            (run, self._epoch.name(run[0].lineage, run[0].index)) for run in runs(entries.values(), longest)
        ]
        troubles: list[OSError] = []
        other = threading.Thread(
            target=self._write, args=(jobs[1::2], into, troubles), name="cache-writer-2", daemon=True
        )
        try:
            if len(jobs) > 1:
                other.start()
        except RuntimeError:  # there may be no more threads
            self._write(jobs[1::2], into, troubles)
        self._write(jobs[::2], into, troubles)
        if other.ident is not None:
            other.join()
        if troubles:
            raise troubles[0]

    def _write(
        self, jobs: list[tuple[list[Entry], str]], into: dict[str, Stored], troubles: list[OSError]
    ) -> None:
        for run, name in jobs:
            lineage, first = run[0].lineage, run[0].index
            blocks = [(entry.block, entry.extents) for entry in run]
            try:
                try:
                    sizes = self.files.write(name, lineage, first, blocks)
                except FileNotFoundError:  # emptied and tidied by another process
                    (self.directory / name).parent.mkdir(mode=0o700, exist_ok=True)
                    sizes = self.files.write(name, lineage, first, blocks)
            except OSError as error:
                troubles.append(error)
                return
            for entry, size in zip(run, sizes, strict=True):
                into[block_key(lineage, entry.index)] = Stored(name, size, entry.valid)

    def forget(self, stored: Mapping[str, Stored]) -> None:
        """Delete files whose rows could not be committed."""
        self.clean = False
        for item in stored.values():
            self.files.remove(item.name)

    def evict(self, count: int) -> list[str]:
        """Delete `count` bytes of blocks least recently used; their keys."""
        gone = self.rows.evict(count)
        self._epoch.tidy(name for _, name in gone)
        return [key for key, _ in gone]

    def sweep(self) -> bool:
        """A step of clearing away what killed processes left; whether there is more to do."""
        if self._sweep is not None:
            try:
                next(self._sweep)
            except StopIteration:
                self._sweep = None
        return self._sweep is not None

    @property
    def sweeping(self) -> bool:
        return self._sweep is not None

    def close(self) -> None:
        """Let go of the directory; this thread's connection is closed."""
        self._sweep = None
        try:
            self._epoch.close(clean=self.clean)
        except OSError as error:
            log.debug("closing the cache: %s", error)
        self.rows.close()


def runs(entries: Iterable[Entry], longest: int) -> list[list[Entry]]:
    """What goes into one file each: a block, or up to `longest` whole ones that follow each other."""
    found: list[list[Entry]] = []
    for entry in sorted(entries, key=lambda entry: (entry.lineage, entry.index)):
        last = found[-1][-1] if found else None
        if (
            last is not None
            and len(found[-1]) < longest
            and (last.lineage, last.index + 1) == (entry.lineage, entry.index)
            and entry.whole
            and last.whole
            and last.block.capacity == BLOCK
        ):
            found[-1].append(entry)
        else:
            found.append([entry])
    return found


class DamagedFile(Damaged):
    """A block file that must not be used; `name` is the one that the row names."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(reason)
        self.name = name


def _make(directory: Path) -> None:
    """Make the directory, for this user alone. One that was there is made private if it is a cache, or
    empty."""
    paths.make_private(directory)
    own = {DATABASE, "blocks", "lock"}
    names = set(os.listdir(directory))
    private = not names or DATABASE in names or names <= own
    if private and paths.is_own(directory) and os.stat(directory).st_mode & 0o077:
        os.chmod(directory, 0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    (directory / "blocks").mkdir(mode=0o700, exist_ok=True)


def _open_rows(directory: Path, doubtful: bool) -> Rows:
    rows = Rows(directory)
    try:
        if doubtful:
            rows.check()
    except sqlite3.DatabaseError:
        rows.close()
        raise
    return rows


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise DatabaseBusy("another process has been opening the cache for too long") from None
                time.sleep(0.01)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough when a forked child has it open too
        os.close(fd)
