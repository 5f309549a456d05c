"""The disk below the memory cache: blocks and small records, written behind by one thread, read by anyone.

Trouble never reaches a reader. There is one warning per cause; blocks are then not kept, records stay in memory, and the disk is
tried again from time to time.

Thread-safety: all methods may be called on any thread. Those that say "at once" touch no disk, and are the
only ones for the event loop's thread, with those of `WriteQueue` but `flush`.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vfs.base.units import size
from vfs.cache.block import Block
from vfs.cache.database import TROUBLE, cause_of
from vfs.cache.ledger import Ledger
from vfs.cache.records import PINS
from vfs.cache.rows import Damaged
from vfs.cache.store import keep_pins, open_ledger, unusable
from vfs.cache.write_queue import WriteBatch, WriteQueue

log = logging.getLogger(__name__)
T = TypeVar("T")

REOPEN_SECONDS = 60.0
"""Least time between two attempts to make a directory anew that vanished or broke."""
PAUSE_SECONDS = 30.0
"""How long nothing is written after the disk was full or refused to be written."""
BUSY_PAUSE = 1.0
"""How long nothing is written after another process kept the database locked."""

_WHY = {
    "busy": "another process keeps it locked",
    "full": "its disk is full",
    "gone": "its directory is not there",
    "refused": "its directory may not be written",
}
_MESSAGES = {
    "busy": "the cache in %s is not written: %s",
    "failing": "the cache in %s does not work; reading goes on without it: %s",
    "foreign": "the cache in %s is not used: %s",
    "full": "no space for the cache in %s; reading goes on without it: %s",
    "gone": "the cache in %s is not there; reading goes on without it: %s",
    "refused": "the cache in %s is not writable; reading goes on without it: %s",
}


class DiskCache(WriteQueue):
    """Blocks by lineage and index, and records by name: those that wait to be written, over those on the disk. Made with
    `open`."""

    def __init__(self, directory: Path, limit: int) -> None:
        super().__init__()
        self.directory = directory
        self.limit = limit
        self.disk_bytes = 0
        """Bytes on the disk, as last looked at."""
        self._ledger: Ledger | None = None
        """None while the directory cannot be used."""
        self._trouble: str | None = None
        """The cause (of `cause_of`) for which nothing can be written just now."""
        self._reopened = -REOPEN_SECONDS
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    @classmethod
    def open(cls, directory: Path, limit: int) -> DiskCache:
        """Open the cache in `directory`, which is made if need be; `limit` in bytes of disk.

        A damaged database, or one of another version, is made anew. Raises CacheUnusable when the directory
        cannot be made or written. A full disk, or another process in the way, is no failure: the cache then
        starts without its directory and tries it again.
        """
        cache = cls(Path(os.path.abspath(directory)), limit)
        try:
            cache._ledger = ledger = open_ledger(cache.directory, renew=True)
            for prefix in PINS:
                cache.pins.update(ledger.records.scan(prefix))
        except TROUBLE as error:
            if cause_of(error) not in ("full", "busy"):
                raise unusable(cache.directory, error) from error
            cache._cope(error)
        cache._thread.start()
        return cache

    @property
    def problem(self) -> str | None:
        """Why nothing can be written just now, for people. At once."""
        return _WHY.get(trouble, "its disk does not work") if (trouble := self._trouble) else None

    def why_not_kept(self, lacking: int) -> str:
        """Why so many bytes are not here although they were handed over, for people. At once."""
        if self.problem is not None:
            return self.problem
        if self.disk_bytes + lacking > self.limit:
            return f"its limit of {size(self.limit)} is too small (--cache-size)"
        return "it could not be written in time"

    def capacity(self) -> tuple[int, str]:
        """Bytes that can be kept in all, and what sets that bound, for people: the limit, or the room on the disk."""
        count = self._try(self._capacity, self.limit)
        if count < self.limit:
            return count, f"its disk has room for {size(count)} of cache ({self.directory})"
        return count, f"the cache keeps {size(count)} at most (--cache-size)"

    # --- blocks ---------------------------------------------------------------------------------------------

    def kept(self, lineage: bytes, index: int) -> bool:
        """Whether a block is here, or waits to be written, as far as this process knows. At once."""
        if self.pending(lineage, index) is not None:
            return True
        ledger = self._ledger
        return ledger is not None and ledger.kept((lineage, index)) and not self.dropped(lineage)

    def known(self, lineage: bytes) -> dict[int, int]:
        """As `index`, as far as this process knows. At once."""
        ledger = self._ledger
        on_disk = {} if ledger is None or self.dropped(lineage) else ledger.known(lineage)
        return on_disk | self.pending_bytes(lineage)

    def index(self, lineage: bytes) -> dict[int, int]:
        """The blocks of a lineage, those that wait to be written too: index → valid bytes."""
        self._try(lambda ledger: ledger.look(lineage), None)
        return self.known(lineage)

    def read(self, lineage: bytes, indexes: Sequence[int]) -> list[Block | None]:
        """Read blocks from the disk, every byte of them checked; None for one that is not there or not sound."""
        found: list[Block | Damaged | None] = [None] * len(indexes)
        if not self.dropped(lineage):
            found = self._try(lambda ledger: ledger.read(lineage, indexes), found)
        blocks: list[Block | None] = []
        for block in found:
            if isinstance(block, Damaged):
                self._warn("damaged", "a cached block is damaged and is fetched again: %s", block)
                block = None
            blocks.append(block)
        self.touch(
            lineage, [index for index, block in zip(indexes, blocks, strict=True) if block is not None]
        )
        return blocks

    # --- records --------------------------------------------------------------------------------------------

    def get_record(self, key: str) -> bytes | None:
        """A record's value; None when there is none, or none that is sound."""
        waits, value = self.pending_record(key)
        if waits:
            return value
        try:
            return self._try(lambda ledger: ledger.records.get(key), None)
        except Damaged:
            self._warn("damaged record", "a record of the cache is damaged and not used")
            return None

    def records(self, prefix: str) -> list[tuple[str, bytes]]:
        """All records whose names begin with `prefix`, in order."""
        waiting = self.pending_records(prefix)  # first: what is written meanwhile is on the disk then
        nothing: dict[str, bytes] = {}
        found = self._try(lambda ledger: dict(ledger.records.scan(prefix)), nothing) | waiting
        return [(key, value) for key in sorted(found) if (value := found[key]) is not None]

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for `timeout` seconds at most, and let go of the directory."""
        self.end(time.monotonic() + timeout)
        self._thread.join(timeout + 1.0)
        if self._thread.is_alive():
            log.warning("the disk of the cache does not answer; %d bytes were not kept", self.queue_bytes)

    # --- trouble ----------------------------------------------------------------------------------------------

    def _try(self, work: Callable[[Ledger], T], otherwise: T) -> T:
        """What `work` gives, or `otherwise` when the disk cannot be used; the thread looks into it."""
        ledger = self._ledger
        try:
            return work(ledger) if ledger is not None else otherwise
        except TROUBLE as error:
            if cause_of(error) != "busy":
                self._cope(error)
            return otherwise

    def _cope(self, error: Exception) -> None:
        """The disk cannot be used: tell why, and see to it that it is tried again."""
        if self._ledger is not None and self._ledger.records.gone:
            self.rest(0.0)  # the thread finds that out by itself
            return
        self._trouble = cause = cause_of(error)
        if cause != "corrupt":
            self._warn(cause, _MESSAGES[cause], self.directory, error)
        if cause in ("corrupt", "foreign", "gone"):
            self._lose()
        else:
            self.rest(BUSY_PAUSE if cause == "busy" else PAUSE_SECONDS)

    def _lose(self) -> None:
        """Let go of a directory that cannot be used any more. It is opened again at once, but not again and again."""
        self._let_go()
        self.rest(self._reopened + REOPEN_SECONDS - time.monotonic())

    def _let_go(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.records.close()

    def _warn(self, cause: str, message: str, *values: object) -> None:
        """Warn once for each cause; what two threads find at once may be told twice."""
        log.log(logging.DEBUG if cause in self._warned else logging.WARNING, message, *values)
        self._warned.add(cause)

    # --- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch = WriteBatch()
        while not batch.last:
            self._handle(batch)
            batch = self.take()
        self._let_go()

    def _handle(self, batch: WriteBatch) -> None:
        written = False
        if self._ledger is not None and self._ledger.records.gone:
            self._warn("vanished", "the cache directory %s vanished; it is made anew", self.directory)
            self._trouble = "gone"
            self._lose()
        if not self.resting:
            self.rest(None)
            try:
                ledger = self._ledger or self._opened()
                if batch:
                    self._write(ledger, batch)
                self.disk_bytes = ledger.records.usage()
                self._trouble, written = None, True
            except TROUBLE as error:
                self._cope(error)
        self.done(batch, records=written)

    def _write(self, ledger: Ledger, batch: WriteBatch) -> None:
        if not ledger.write(batch, self.limit):
            if self._capacity(ledger) < self.limit:
                raise OSError(errno.ENOSPC, "the little that is left is for other programs")
            message = "the cache in %s is full: its limit is too small for what is pinned"
            self._warn("limit", message, self.directory)
        if any(key.startswith(PINS) for key in batch.records):
            keep_pins(ledger)

    def _capacity(self, ledger: Ledger) -> int:
        return min(self.limit, ledger.records.usage() + ledger.spare())

    def _opened(self) -> Ledger:
        """Open the directory again. Raises `TROUBLE`."""
        self._reopened = time.monotonic()
        self._ledger = open_ledger(self.directory, renew=False, doubtful=True)
        log.info("the cache in %s is in use again", self.directory)
        for key, value in sorted(self.pins.items()):
            self.set_record(key, value)
        return self._ledger
