"""The thread that writes the cache's disk, keeps it under its limit, and copes when the disk fails.

Trouble never reaches a reader. There is one warning per cause; blocks are then not kept, records stay in
memory, and the disk is tried again from time to time. Thread-safety: all here runs on the writer thread,
except `start`, `join` and reading `ledger`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from vfs.cache.database import DatabaseBusy, ForeignDatabase, cause_of
from vfs.cache.groups import Place
from vfs.cache.ledger import Ledger
from vfs.cache.records import PINS
from vfs.cache.store import keep_pins, open_ledger, sweep
from vfs.cache.write_queue import Waiting, WriteBatch

log = logging.getLogger(__name__)

REOPEN_SECONDS = 60.0
"""Least time between two attempts to make a directory anew that vanished or broke."""
PAUSE_SECONDS = 30.0
"""How long nothing is written after the disk was full or refused to be written."""
BUSY_PAUSE = 1.0
"""How long nothing is written after another process kept the database locked."""
SWEEP_PAUSE = 0.02
"""Seconds between two steps of deleting data files without a record."""

TROUBLE = (OSError, sqlite3.Error, DatabaseBusy, ForeignDatabase)


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
    """Owns the opened directory; `ledger` is None while it cannot be used."""

    def __init__(
        self,
        directory: Path,
        limit: int,
        waiting: Waiting,
        warnings: Warnings,
    ) -> None:
        self.ledger: Ledger | None = None
        self._sweeping: Iterator[None] | None = None
        self.disk_bytes = 0
        """Bytes on the disk, as last looked at."""
        self.trouble: str | None = None
        """The cause (of `cause_of`) for which nothing can be written just now."""
        self._directory = directory
        self._limit = limit
        self._waiting = waiting
        self._warnings = warnings
        self._paused_until = 0.0
        self._reopen_at = 0.0
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    def start(self, ledger: Ledger | None, trouble: Exception | None) -> None:
        """Begin, with an opened directory or with what keeps it from being opened."""
        if ledger is not None:
            self._use(ledger)
        if trouble is not None:
            self._trouble(trouble)
            self._reopen_at = time.monotonic() + PAUSE_SECONDS
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, which `Waiting.close` brings about; whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch = WriteBatch()
        while not batch.last:
            self._handle(batch)
            self._step()
            batch = self._waiting.take(self._patience(), stuck=self._stuck())
        self._let_go()

    def _patience(self) -> float | None:
        now = time.monotonic()
        if self._stuck():
            return max(self._paused_until, self._reopen_at if self.ledger is None else 0.0) - now + 0.01
        return SWEEP_PAUSE if self._sweeping is not None else None

    def _stuck(self) -> bool:
        now = time.monotonic()
        return now < self._paused_until or (self.ledger is None and now < self._reopen_at)

    def _step(self) -> None:
        """Sweep a little."""
        if self._sweeping is not None and not self._stuck():
            try:
                next(self._sweeping)
                return
            except StopIteration:
                pass
            except TROUBLE as error:
                log.debug("sweeping the cache: %s", error)
            self._sweeping = None

    def _handle(self, batch: WriteBatch) -> None:
        if batch.doubt is not None:
            self._trouble(batch.doubt)
        ledger = self._ready()
        records = False
        if ledger is not None and time.monotonic() >= self._paused_until:
            try:
                if batch:
                    self._write(ledger, batch)
                records = True
                self.trouble = None
                self.disk_bytes = ledger.records.usage()
            except TROUBLE as error:
                self._trouble(error)
        self._waiting.done(batch, records=records)

    def _write(self, ledger: Ledger, batch: WriteBatch) -> None:
        fitting = ledger.begin(batch, self._limit)
        if len(fitting) < len(batch.blocks):
            self._warnings.tell(
                "limit", "the cache in %s is full: its limit is too small for what is pinned", self._directory
            )
        checksums: dict[Place, int] = {}
        try:
            for lineage, group in groupby(sorted(fitting, key=lambda e: e.place), lambda e: e.lineage):
                entries = list(group)
                ledger.files.write(lineage, [(e.index, e.block, e.extents) for e in entries])
                checksums |= {entry.place: entry.checksum for entry in entries}
        finally:
            if fitting:
                ledger.finish(fitting, checksums)
        if any(key.startswith(PINS) for key in batch.records):
            keep_pins(ledger)

    # --- trouble --------------------------------------------------------------------------------------------

    def _ready(self) -> Ledger | None:
        if self.ledger is not None and self.ledger.records.gone:
            self._warnings.tell(
                "vanished", "the cache directory %s vanished; it is made anew", self._directory
            )
            self._let_go()
        if self.ledger is None and time.monotonic() >= self._reopen_at:
            self._reopen_at = time.monotonic() + REOPEN_SECONDS
            try:
                self._use(open_ledger(self._directory, renew=False, doubtful=True))
            except TROUBLE as error:
                self._trouble(error)
            else:
                log.info("the cache in %s is in use again", self._directory)
                for key, value in sorted(self._waiting.pins.items()):
                    self._waiting.note(key, value)
        return self.ledger

    def _use(self, ledger: Ledger) -> None:
        self.ledger, self._sweeping = ledger, sweep(ledger)

    def _let_go(self) -> None:
        ledger, self.ledger, self._sweeping = self.ledger, None, None
        if ledger is not None:
            ledger.records.close()

    def _trouble(self, error: Exception) -> None:
        cause = cause_of(error)
        if self.ledger is not None and self.ledger.records.gone:
            return  # `_ready` finds that out by itself
        self.trouble = cause
        if cause in ("corrupt", "foreign", "gone"):
            if cause != "corrupt":
                self._warnings.tell(cause, _MESSAGES[cause], self._directory, error)
            self._let_go()
            return
        self._warnings.tell(cause, _MESSAGES[cause], self._directory, error)
        self._paused_until = time.monotonic() + (BUSY_PAUSE if cause == "busy" else PAUSE_SECONDS)


_MESSAGES = {
    "busy": "the cache in %s is not written: %s",
    "failing": "the cache in %s does not work; reading goes on without it: %s",
    "foreign": "the cache in %s is not used: %s",
    "full": "no space for the cache in %s; reading goes on without it: %s",
    "gone": "the cache in %s is not there; reading goes on without it: %s",
    "refused": "the cache in %s is not writable; reading goes on without it: %s",
}
