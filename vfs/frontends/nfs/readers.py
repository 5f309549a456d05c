"""Open readers for a protocol that opens nothing: one per file, bounded, closed when nobody has read for a while.

A reader keeps the access pattern, so that readahead and the formats work as for a program that holds the file open.
Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

MOST_READERS = 256
IDLE_SECONDS = 30.0
"""How long a reader stays open by which nobody reads."""


class Closable(Protocol):
    def close(self) -> None: ...


R = TypeVar("R", bound=Closable)


class _Slot(Generic[R]):
    """A reader, or one that is being opened."""

    def __init__(self, now: float) -> None:
        self.reader: R | None = None
        self.opening = asyncio.Lock()
        self.users = 0
        self.used = now


class Readers(Generic[R]):
    """`most`: readers kept open; more only while each of them is in use. `idle`: seconds without a read."""

    def __init__(self, most: int = MOST_READERS, idle: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle = idle
        self._slots: dict[int, _Slot[R]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @asynccontextmanager
    async def of(self, key: int, make: Callable[[], Awaitable[R]]) -> AsyncIterator[R]:
        """The reader of `key` for the time of the block, made by `make` if there is none. Raises what `make` does."""
        slot = self._slots.pop(key, None) or _Slot(self._now())
        self._slots[key] = slot  # the one used last is last
        slot.users += 1
        try:
            async with slot.opening:  # each file is opened once, also for many that read at once
                if slot.reader is None:
                    slot.reader = await make()
            self._sweep()
            yield slot.reader
        finally:
            slot.users -= 1
            slot.used = self._now()
            if slot.reader is None and not slot.users:
                del self._slots[key]

    def drop(self, key: int) -> None:
        """Close the reader of `key`, if there is one and nobody uses it."""
        slot = self._slots.get(key)
        if slot is not None and not slot.users:
            self._close(key, slot)

    def close(self) -> None:
        """Close all that nobody uses."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in list(self._slots):
            self.drop(key)

    def _sweep(self) -> None:
        """Close readers beyond the bound and idle ones; look again while there are any."""
        now = self._now()
        for key, slot in list(self._slots.items()):
            if len(self._slots) > self._most or now - slot.used >= self._idle:
                self.drop(key)
        if self._timer is None and self._slots:
            self._timer = asyncio.get_running_loop().call_later(self._idle / 2, self._look)

    def _look(self) -> None:
        self._timer = None
        self._sweep()

    def _close(self, key: int, slot: _Slot[R]) -> None:
        del self._slots[key]
        if slot.reader is not None:
            slot.reader.close()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
