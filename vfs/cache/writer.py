"""The thread that writes the cache's disk, keeps it under its limit, and copes when the disk fails.

Trouble never reaches a reader. There is one warning per cause; blocks are then not kept, records stay in
memory, and the disk is tried again from time to time. Thread-safety: all here runs on the writer thread,
except `start`, `join`, `cope` and reading `ledger`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path

from vfs.cache.database import DatabaseBusy, ForeignDatabase, cause_of
from vfs.cache.ledger import Ledger
from vfs.cache.records import PINS
from vfs.cache.store import keep_pins, open_ledger
from vfs.cache.write_queue import WriteBatch, WriteQueue

log = logging.getLogger(__name__)

REOPEN_SECONDS = 60.0
"""Least time between two attempts to make a directory anew that vanished or broke."""
PAUSE_SECONDS = 30.0
"""How long nothing is written after the disk was full or refused to be written."""
BUSY_PAUSE = 1.0
"""How long nothing is written after another process kept the database locked."""

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

    def __init__(self, directory: Path, limit: int, queue: WriteQueue, warnings: Warnings) -> None:
        self.ledger: Ledger | None = None
        self.disk_bytes = 0
        """Bytes on the disk, as last looked at."""
        self.trouble: str | None = None
        """The cause (of `cause_of`) for which nothing can be written just now."""
        self._directory = directory
        self._limit = limit
        self._queue = queue
        self._warnings = warnings
        self._reopened = -REOPEN_SECONDS
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    def start(self, ledger: Ledger | None, trouble: Exception | None) -> None:
        """Begin, with an opened directory or with what keeps it from being opened."""
        self.ledger = ledger
        if trouble is not None:
            self.cope(trouble)
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, which `WriteQueue.end` brings about; whether it ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cope(self, error: Exception) -> None:
        """The disk cannot be used: tell why, and see to it that it is tried again. Any thread."""
        if self.ledger is not None and self.ledger.records.gone:
            self._queue.rest(0.0)  # the thread finds that out by itself
            return
        self.trouble = cause = cause_of(error)
        if cause != "corrupt":
            self._warnings.tell(cause, _MESSAGES[cause], self._directory, error)
        if cause in ("corrupt", "foreign", "gone"):
            self._lose()
        else:
            self._queue.rest(BUSY_PAUSE if cause == "busy" else PAUSE_SECONDS)

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch = WriteBatch()
        while not batch.last:
            self._handle(batch)
            batch = self._queue.take()
        self._let_go()

    def _handle(self, batch: WriteBatch) -> None:
        written = False
        if self.ledger is not None and self.ledger.records.gone:
            self._warnings.tell(
                "vanished", "the cache directory %s vanished; it is made anew", self._directory
            )
            self._lose()
        if not self._queue.resting:
            self._queue.rest(None)
            try:
                ledger = self.ledger or self._opened()
                if batch:
                    self._write(ledger, batch)
                self.disk_bytes = ledger.records.usage()
                self.trouble, written = None, True
            except TROUBLE as error:
                self.cope(error)
        self._queue.done(batch, records=written)

    def _write(self, ledger: Ledger, batch: WriteBatch) -> None:
        if not ledger.write(batch, self._limit):
            self._warnings.tell(
                "limit", "the cache in %s is full: its limit is too small for what is pinned", self._directory
            )
        if any(key.startswith(PINS) for key in batch.records):
            keep_pins(ledger)

    def _opened(self) -> Ledger:
        """Open the directory again. Raises `TROUBLE`."""
        self._reopened = time.monotonic()
        self.ledger = open_ledger(self._directory, renew=False, doubtful=True)
        log.info("the cache in %s is in use again", self._directory)
        for key, value in sorted(self._queue.pins.items()):
            self._queue.set_record(key, value)
        return self.ledger

    def _lose(self) -> None:
        """Let go of a directory that cannot be used any more. It is opened again at once, but not again and again."""
        self._let_go()
        self._queue.rest(self._reopened + REOPEN_SECONDS - time.monotonic())

    def _let_go(self) -> None:
        ledger, self.ledger = self.ledger, None
        if ledger is not None:
            ledger.records.close()


_MESSAGES = {
    "busy": "the cache in %s is not written: %s",
    "failing": "the cache in %s does not work; reading goes on without it: %s",
    "foreign": "the cache in %s is not used: %s",
    "full": "no space for the cache in %s; reading goes on without it: %s",
    "gone": "the cache in %s is not there; reading goes on without it: %s",
    "refused": "the cache in %s is not writable; reading goes on without it: %s",
}
