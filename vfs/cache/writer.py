"""The thread that writes the cache's disk, keeps it under its limit, and copes when the disk fails.

Trouble never reaches a reader. There is one warning per cause; blocks are then not kept, records stay in
memory, and the disk is tried again from time to time. Thread-safety: all here runs on the writer thread,
except `start`, `join` and reading `store`.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfs.cache.block import BLOCK
from vfs.cache.buffers import PAGE, pages
from vfs.cache.database import DatabaseBusy, ForeignDatabase, is_busy, is_corrupt, patiently
from vfs.cache.keys import RUN, parse_key
from vfs.cache.rows import Changes, Stored
from vfs.cache.store import Entry, Store
from vfs.cache.write_queue import Batch, Waiting

log = logging.getLogger(__name__)

REOPEN_SECONDS = 60.0
"""Least time between two attempts to make a directory anew that vanished or broke."""
PAUSE_SECONDS = 30.0
"""How long nothing is written after the disk was full or refused to be written."""
SHARE = 32
"""A file of blocks, which is evicted as a whole, takes at most this part of the limit."""
BUSY_PAUSE = 1.0
"""How long nothing is written after another process kept the database locked."""
SWEEP_PAUSE = 0.02
"""Seconds between two steps of clearing away what killed processes left."""

TROUBLE = (OSError, sqlite3.Error, DatabaseBusy, ForeignDatabase)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of blocks: written (with their valid bytes), or not, or no longer, on the disk."""

    written: dict[tuple[bytes, int], int]
    lost: list[tuple[bytes, int]]


class Warnings:
    """One warning per cause. Thread-safe: a cause that two threads find at once may be told twice."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, cause: str, message: str, *values: object) -> None:
        if cause in self._told:
            log.debug(message, *values)
        else:
            self._told.add(cause)
            log.warning(message, *values)


class Writer:
    """Owns the `Store`; `store` is None while the directory cannot be used."""

    def __init__(
        self,
        directory: Path,
        limit: int,
        waiting: Waiting,
        warnings: Warnings,
        report: Callable[[Report], None],
    ) -> None:
        self.store: Store | None = None
        self.disk_bytes = 0
        """Bytes on the disk, as last looked at."""
        self.evictions = 0
        self.trouble: str | None = None
        """The cause (of `cause_of`) for which nothing can be written just now."""
        self._directory = directory
        self._limit = limit
        self._longest = max(1, min(RUN, limit // (SHARE * BLOCK)))
        self._waiting = waiting
        self._warnings = warnings
        self._report = report
        self._paused_until = 0.0
        self._reopen_at = 0.0
        self._doubtful = False
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    def start(self, store: Store | None, trouble: Exception | None) -> None:
        """Begin, with a store or with what keeps it from being opened."""
        self.store = store
        if trouble is not None:
            self._trouble(trouble)
            self._reopen_at = time.monotonic() + PAUSE_SECONDS
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, which `Waiting.close` brings about; whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def report(self, written: Mapping[str, Stored], lost: Iterable[object]) -> None:
        """Tell whoever listens what became of blocks."""
        places = {parse_key(key): stored.valid for key, stored in written.items()}
        self._report(
            Report(
                {place: valid for place, valid in places.items() if place is not None},
                [place for place in map(parse_key, lost) if place is not None],
            )
        )

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch = Batch()
        while not batch.last:
            self._handle(batch)
            self._step()
            batch = self._waiting.take(self._patience(), stuck=self._stuck())
        if self.store is not None:
            self.store.close()
            self.store = None

    def _patience(self) -> float | None:
        now = time.monotonic()
        if self._stuck():
            return max(self._paused_until, self._reopen_at if self.store is None else 0.0) - now + 0.01
        return SWEEP_PAUSE if self.store is not None and self.store.sweeping else None

    def _stuck(self) -> bool:
        now = time.monotonic()
        return now < self._paused_until or (self.store is None and now < self._reopen_at)

    def _step(self) -> None:
        if self.store is not None and self.store.sweeping and not self._stuck():
            try:
                self.store.sweep()
            except TROUBLE as error:
                log.debug("sweeping the cache: %s", error)

    def _handle(self, batch: Batch) -> None:
        if batch.doubt is not None:
            self._trouble(batch.doubt)
        store = self._ready()
        written: dict[str, Stored] = {}
        gone: list[str] = []
        records = False
        if store is not None and time.monotonic() >= self._paused_until:
            try:
                if batch:
                    self._write(store, batch, written, gone)
                records = True
                self.trouble = None
                self.disk_bytes = store.rows.usage()
            except TROUBLE as error:
                self._trouble(error)
        lost = [key for key in batch.blocks if key not in written]
        self._waiting.done(batch, records=records)
        if batch.blocks or gone:
            self.report(written, gone + lost)

    def _write(self, store: Store, batch: Batch, written: dict[str, Stored], gone: list[str]) -> None:
        if batch.drops or batch.bad:
            self._apply(store, Changes(drop=set(batch.drops), bad=batch.bad))
        fitting = self._fit(store, batch, gone)
        fresh: dict[str, Stored] = {}
        trouble: OSError | None = None
        try:
            store.write(fitting, fresh, self._longest)
        except OSError as error:
            trouble = error
        try:
            self._apply(store, Changes(blocks=fresh, records=batch.records, used=batch.used))
        except TROUBLE:
            store.forget(fresh)
            raise
        written.update(fresh)
        over = store.rows.usage() - self._limit
        if over > 0 and fresh:
            self._evict(store, over, gone)
        if trouble is not None:
            raise trouble

    def _apply(self, store: Store, changes: Changes) -> None:
        patiently(lambda: store.rows.apply(changes))

    def _fit(self, store: Store, batch: Batch, gone: list[str]) -> dict[str, Entry]:
        """Make room; the blocks for which there is room then."""
        if not batch.blocks:
            return {}
        sizes = {key: PAGE + pages(max(entry.valid, 1)) for key, entry in batch.blocks.items()}
        need, room = sum(sizes.values()), self._limit - store.rows.usage()
        if need > room and batch.used:
            self._apply(store, Changes(used=batch.used))
        while need > room and self._evict(store, need - room, gone):
            room = self._limit - store.rows.usage()
        if need <= room:
            return dict(batch.blocks)
        self._warnings.tell(
            "limit", "the cache in %s is full: its limit is too small for what is pinned", self._directory
        )
        fitting = {}
        for key, entry in batch.blocks.items():
            room -= sizes[key]
            if room >= 0:
                fitting[key] = entry
        return fitting

    def _evict(self, store: Store, count: int, gone: list[str]) -> int:
        """Delete `count` bytes of blocks, and note them in `gone`; how many blocks there were to delete."""
        keys = patiently(lambda: store.evict(count))
        self.evictions += len(keys)
        gone.extend(keys)
        return len(keys)

    # --- trouble --------------------------------------------------------------------------------------------

    def _ready(self) -> Store | None:
        if self.store is not None and self.store.rows.gone:
            self._warnings.tell(
                "vanished", "the cache directory %s vanished; it is made anew", self._directory
            )
            self._let_go()
        if self.store is None and time.monotonic() >= self._reopen_at:
            self._reopen_at = time.monotonic() + REOPEN_SECONDS
            try:
                store = Store.open(self._directory, renew=False, doubtful=self._doubtful)
            except TROUBLE as error:
                self._trouble(error)
            else:
                self._doubtful = False
                self.store = store
                log.info("the cache in %s is in use again", self._directory)
                for key, value in sorted(self._waiting.pins.items()):
                    self._waiting.note(key, value)
        return self.store

    def _let_go(self) -> None:
        store, self.store = self.store, None
        if store is not None:
            store.close()

    def _trouble(self, error: Exception) -> None:
        cause = cause_of(error)
        if self.store is not None and self.store.rows.gone:
            return  # `_ready` finds that out by itself
        self.trouble = cause
        if cause in ("corrupt", "foreign", "gone"):
            if cause != "corrupt":
                self._warnings.tell(cause, _MESSAGES[cause], self._directory, error)
            self._doubtful = cause == "corrupt"
            self._let_go()
            return
        self._warnings.tell(cause, _MESSAGES[cause], self._directory, error)
        self._paused_until = time.monotonic() + (BUSY_PAUSE if cause == "busy" else PAUSE_SECONDS)


_MESSAGES = {
    "busy": "the cache in %s is not written: %s",
    "failing": "the cache in %s does not work; reading goes on without it: %s",
    "foreign": "the cache in %s is not used: %s",
    "full": "no room for the cache in %s; reading goes on without it: %s",
    "gone": "the cache in %s is not there; reading goes on without it: %s",
    "refused": "the cache in %s may not be written; reading goes on without it: %s",
}


def cause_of(error: Exception) -> str:
    """The kind of trouble: full, refused, gone, busy, corrupt, foreign, failing."""
    if isinstance(error, DatabaseBusy):
        return "busy"
    if isinstance(error, ForeignDatabase):
        return "foreign"
    if isinstance(error, sqlite3.Error):
        if is_busy(error):
            return "busy"
        if is_corrupt(error):
            return "corrupt"
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kinds = {
            sqlite3.SQLITE_FULL: "full",
            sqlite3.SQLITE_READONLY: "refused",
            sqlite3.SQLITE_PERM: "refused",
            sqlite3.SQLITE_CANTOPEN: "gone",
        }
        return kinds.get(code, "failing")
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "full"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return "refused"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "gone"
    return "failing"
