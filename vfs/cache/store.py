"""A cache directory: how it is opened, renewed and kept clean.

    cache.db            records (`records.py`), shared by all processes
    blocks/A/B/LINEAGE  data files (`data.py`)
    pins                the pins once more: they outlive a damaged database and a new format
    swept               the start of the machine since which data files without a record were deleted
    lock                held (flock) while a process opens or renews the database
    writing             held (flock) while a process writes or deletes data files

Thread-safety: any thread but the event loop's. All raise OSError and sqlite3.DatabaseError as they come, `DatabaseBusy`
when another process is in the way.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from vfs.base import paths
from vfs.base.errors import CacheUnusable
from vfs.cache.database import DATABASE, DatabaseBusy, ForeignDatabase, cause_of
from vfs.cache.file_lock import locked
from vfs.cache.ledger import WRITING, Ledger
from vfs.cache.records import PINS

log = logging.getLogger(__name__)

KEPT_PINS = "pins"
SWEPT = "swept"
_OURS = (SWEPT, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", DATABASE)
"""What is deleted of a cache that cannot be used, in this order: after a crash in between, that is found again. Its data
files have no record any more, and are swept."""
SWEEP_PAUSE = 0.02
"""Seconds between two steps of deleting data files without a record."""


def open_ledger(directory: Path, *, renew: bool, doubtful: bool = False) -> Ledger:
    """Open a cache directory; what is missing is made, a corrupt database is made anew, with the pins that there were.

    `renew`: one of another version, too, else `ForeignDatabase` is raised. `doubtful`: read the whole database to see whether it
    is sound, since there was trouble with it. Raises CacheUnusable where no cache can be.
    """
    if os.path.expandvars(directory) != str(directory):
        raise CacheUnusable(f"the name of a cache directory must not contain a variable: {directory}")
    _make(directory)
    with locked(directory / "lock") as held:
        if not held:
            raise DatabaseBusy("another process has been opening the cache for too long")
        try:
            ledger = Ledger(directory)
            if doubtful:
                ledger.records.check()
        except ForeignDatabase as error:
            if not renew:
                raise
            ledger = _renewed(directory, str(error))
        except sqlite3.DatabaseError as error:
            if cause_of(error) != "corrupt":
                raise
            ledger = _renewed(directory, f"its database cannot be used ({error})")
    swept = directory / SWEPT
    if not swept.exists() or swept.read_text() != _boot():
        threading.Thread(target=_sweep, args=(ledger,), name="cache-sweep", daemon=True).start()
    return ledger


def _renewed(directory: Path, reason: str) -> Ledger:
    log.warning("the cache in %s is made anew: %s", directory, reason)
    pins = _known_pins(directory)
    for name in _OURS:
        (directory / name).unlink(missing_ok=True)
    _make(directory)
    ledger = Ledger(directory)
    with ledger.records.transaction():
        for key, value in pins.items():
            ledger.records.set(key, value)
    return ledger


def keep_pins(ledger: Ledger) -> None:
    """Write the pins down beside the database."""
    pins = {key: value.hex() for prefix in PINS for key, value in ledger.records.scan(prefix)}
    paths.write_atomically(ledger.directory / KEPT_PINS, json.dumps(pins))


def check_place(directory: Path) -> None:
    """See whether a cache could be made in `directory`, or written if there is one; a full disk will do.

    Nothing is made. Raises CacheUnusable.
    """
    try:
        with tempfile.TemporaryFile(
            dir=paths.existing(directory)
        ):  # permissions do not tell of a read-only disk
            pass
    except OSError as error:
        if cause_of(error) != "full":
            raise unusable(directory, error) from error


def unusable(directory: Path, error: Exception) -> CacheUnusable:
    """The error that tells a person why no cache can be in `directory`."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file is in the way"
    return CacheUnusable(f"the cache directory {directory} cannot be used: {reason}")


def _sweep(ledger: Ledger) -> None:
    """Delete the data files that have no record, as a power cut leaves them. Done once after each start of the machine, on a
    thread of its own, with pauses."""
    try:
        for _ in ledger.sweep():
            time.sleep(SWEEP_PAUSE)
            if ledger.records.gone:
                return
        paths.write_atomically(ledger.directory / SWEPT, _boot())
    except (OSError, sqlite3.Error, DatabaseBusy) as error:
        log.debug("sweeping the cache: %s", error)
    finally:
        ledger.records.close()


def _known_pins(directory: Path) -> dict[str, bytes]:
    """The pins of a cache whose database cannot be used."""
    with suppress(OSError, ValueError, AttributeError):
        pins = json.loads((directory / KEPT_PINS).read_bytes())
        return {key: bytes.fromhex(value) for key, value in pins.items() if key.startswith(PINS)}
    return {}


def _boot() -> str:
    """What names this start of the machine; nothing where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _make(directory: Path) -> None:
    """Make the directory, for this user alone. One that was there is made private if it is a cache, or
    empty."""
    paths.make_private(directory)
    own = {DATABASE, "blocks", "lock", WRITING, SWEPT, KEPT_PINS}
    names = set(os.listdir(directory))
    private = not names or DATABASE in names or names <= own
    if private and paths.is_own(directory) and os.stat(directory).st_mode & 0o077:
        os.chmod(directory, 0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    if not (directory / "blocks").exists():
        (directory / "blocks").mkdir(mode=0o700, exist_ok=True)
        paths.write_atomically(directory / SWEPT, _boot())  # there is nothing to sweep
