"""Open readers for a protocol without an open: one per file, bounded, closed after IDLE_SECONDS without a read.

A reader keeps the access pattern, so that readahead and the formats work as for a program that holds the file open.
Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vfs.base.loop_time import loop_time
from vfs.files.node import Node
from vfs.files.reader import Reader
from vfs.files.service import Files

MOST_READERS = 256
"""Readers kept open; more only while each of them is in use."""
IDLE_SECONDS = 30.0
"""How long a reader without a read stays open."""


@dataclass(slots=True)
class _Slot:
    """A reader, or one that is being opened."""

    used: float
    users: int = 0
    reader: Reader | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


class Readers:
    """The open readers of files that clients read."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._slots: dict[Node, _Slot] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @asynccontextmanager
    async def of(self, node: Node) -> AsyncIterator[Reader]:
        """The reader of a file for the time of the block. Raises as `Files.open`."""
        slot = self._slots.pop(node, None) or _Slot(loop_time())
        self._slots[node] = slot  # the one used last is last
        slot.users += 1
        try:
            async with slot.opening:  # each file is opened once, also for many that read at once
                if slot.reader is None:
                    slot.reader = await self._files.open(node)
            self._sweep()
            yield slot.reader
        finally:
            slot.users -= 1
            slot.used = loop_time()
            if slot.reader is None and not slot.users:
                del self._slots[node]

    def close(self) -> None:
        """Close all that are not in use."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for node in list(self._slots):
            self._drop(node)

    def _sweep(self) -> None:
        """Close readers beyond the bound and idle ones; look again while there are any."""
        now = loop_time()
        for node, slot in list(self._slots.items()):
            if len(self._slots) > MOST_READERS or now - slot.used >= IDLE_SECONDS:
                self._drop(node)
        if self._timer is None and self._slots:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS / 2, self._look)

    def _look(self) -> None:
        self._timer = None
        self._sweep()

    def _drop(self, node: Node) -> None:
        """Close a reader, unless it is in use."""
        slot = self._slots[node]
        if not slot.users:
            del self._slots[node]
            if slot.reader is not None:
                slot.reader.close()
