"""One opened cache directory, and how it is made, renewed and kept clean.

    cache.db            records (`records.py`), shared by all processes
    blocks/A/B/LINEAGE  data files (`data.py`)
    pins                the pins once more: they outlive a damaged database and a new format
    swept               the start of the machine since which data files without a record were looked for
    lock                held (flock) while a process opens or renews the database
    aside-*             what is being deleted

Thread-safety: of an open one, `ledger` on any thread but the event loop's, the rest on the cache's writer thread.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vfs.base import paths
from vfs.cache.database import DATABASE, DatabaseBusy, ForeignDatabase, is_corrupt
from vfs.cache.groups import Damaged
from vfs.cache.ledger import Ledger
from vfs.cache.records import PINS, unseal

log = logging.getLogger(__name__)

KEPT_PINS = "pins"
_OURS = (f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", "blocks", DATABASE)
"""In the order in which they are set aside: after a crash in between, the database is found wanting again."""
_ASIDE = "aside-"
_LOCK_SECONDS = 2.0
"""The longest wait for another process that opens the cache just now."""


class Store:
    """Raises OSError and sqlite3.DatabaseError as they come, `DatabaseBusy` when another process is in the
    way."""

    def __init__(self, directory: Path, doubtful: bool) -> None:
        self.directory = directory
        self.ledger = Ledger(directory)
        self._cleaning: Iterator[None] | None = self._clean()
        if doubtful:
            try:
                self.ledger.records.check()
            except sqlite3.DatabaseError:
                self.ledger.records.close()
                raise

    @classmethod
    def open(cls, directory: Path, *, renew: bool, doubtful: bool = False) -> Store:
        """Open a cache directory; what is missing is made, a corrupt database is set aside and made anew, with the
        pins that there were.

        `renew`: one of another version, too, else `ForeignDatabase` is raised. `doubtful`: read the whole
        database to see whether it is sound, since there was trouble with it.
        """
        _make(directory)
        with _locked(directory / "lock"):
            try:
                return cls(directory, doubtful)
            except ForeignDatabase as error:
                if not renew:
                    raise
                reason = str(error)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                reason = f"its database is damaged ({error})"
            log.warning("the cache in %s is made anew: %s", directory, reason)
            pins = _known_pins(directory)
            set_aside(directory, _OURS)
            _make(directory)
            store = cls(directory, doubtful=False)
            records = store.ledger.records
            with records.transaction():
                for key, value in pins.items():
                    records.set(key, value)
            return store

    def keep_pins(self) -> None:
        """Write the pins down beside the database."""
        records = self.ledger.records
        pins = {key: value.hex() for prefix in PINS for key, value in records.scan(prefix)}
        _write(self.directory / KEPT_PINS, json.dumps(pins).encode())

    def clear(self, *, in_use: bool) -> None:
        """Delete everything; `in_use`: records stay, apart from pins."""
        set_aside(self.directory, ("blocks",))
        (self.directory / "blocks").mkdir(mode=0o700, exist_ok=True)
        self.ledger.records.clear(pins_and_groups=in_use)
        self.keep_pins()
        for aside in self.directory.glob(f"{_ASIDE}*"):
            _delete(aside)

    def clean(self) -> bool:
        """A step of clearing away what nobody needs; whether there is more to do."""
        if self._cleaning is not None:
            try:
                next(self._cleaning)
            except StopIteration:
                self._cleaning = None
        return self._cleaning is not None

    @property
    def cleaning(self) -> bool:
        return self._cleaning is not None

    def close(self) -> None:
        """Let go of the directory; this thread's connection is closed."""
        self._cleaning = None
        self.ledger.records.close()

    def _clean(self) -> Iterator[None]:
        for aside in self.directory.glob(f"{_ASIDE}*"):
            for part in aside.glob("*/*"):
                _delete(part)
                yield
            _delete(aside)
            yield
        boot, swept = _boot(), self.directory / "swept"
        if boot is None or (swept.exists() and swept.read_bytes() == boot):
            return
        yield from self.ledger.sweep()
        _write(swept, boot)


def set_aside(directory: Path, names: tuple[str, ...]) -> None:
    """Move entries of `directory` out of the way, to be deleted later. Raises OSError."""
    for name in names:
        with suppress(FileNotFoundError):  # there was none, or another process was faster
            os.rename(directory / name, directory / f"{_ASIDE}{os.urandom(8).hex()}-{name}")


def _delete(path: Path) -> None:
    """Delete a file or a tree, as far as it can be deleted; another process may be deleting it, too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _known_pins(directory: Path) -> dict[str, bytes]:
    """The pins of a cache whose database cannot be used: what it still tells, else what was written down."""
    pins: dict[str, bytes] = {}
    with suppress(OSError, ValueError, AttributeError):
        for key, value in json.loads((directory / KEPT_PINS).read_bytes()).items():
            if key.startswith(PINS):
                pins[key] = bytes.fromhex(value)
    with suppress(sqlite3.Error), closing(sqlite3.connect(directory / DATABASE, timeout=0.5)) as old:
        query = "SELECT key, value FROM Cache WHERE key >= 'p:' AND key < 'pin;' AND raw = 1"
        for key, value in old.execute(query):
            with suppress(Damaged):
                if key.startswith(PINS) and (found := unseal(key, value)) is not None:
                    pins.setdefault(key, found)
    return pins


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
    os.replace(new, path)


def _boot() -> bytes | None:
    """What names this start of the machine; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return None


def _make(directory: Path) -> None:
    """Make the directory, for this user alone. One that was there is made private if it is a cache, or
    empty."""
    paths.make_private(directory)
    own = {DATABASE, "blocks", "lock", "swept", KEPT_PINS}
    names = set(os.listdir(directory))
    private = not names or DATABASE in names or names <= own
    if private and paths.is_own(directory) and os.stat(directory).st_mode & 0o077:
        os.chmod(directory, 0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    (directory / "blocks").mkdir(mode=0o700, exist_ok=True)


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
