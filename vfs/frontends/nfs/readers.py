"""Open readers for a protocol without an open: one per file, bounded, closed after IDLE_SECONDS without a read.

A reader keeps the access pattern, so that readahead and the formats work as for a program that holds the file open.
Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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

    users: int = 0
    reader: Reader | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    idle: asyncio.TimerHandle | None = None
    """Closes it, while nobody uses it."""


class Readers:
    """The open readers of files that clients read."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._slots: dict[Node, _Slot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @asynccontextmanager
    async def of(self, node: Node) -> AsyncIterator[Reader]:
        """The reader of a file for the time of the block. Raises as `Files.open`."""
        slot = self._slots.pop(node, None) or _Slot()
        self._slots[node] = slot  # the one used last is last
        slot.users += 1
        if slot.idle is not None:
            slot.idle.cancel()
        try:
            async with slot.opening:  # each file is opened once, also for many that read at once
                if slot.reader is None:
                    slot.reader = await self._files.open(node)
            for other in list(self._slots)[:-MOST_READERS]:
                self._drop(other)
            yield slot.reader
        finally:
            slot.users -= 1
            if slot.reader is None:
                self._drop(node)
            elif not slot.users:
                slot.idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop, node)

    def close(self) -> None:
        """Close all that are not in use."""
        for node in list(self._slots):
            self._drop(node)

    def _drop(self, node: Node) -> None:
        """Close a reader, unless it is in use."""
        slot = self._slots[node]
        if slot.users:
            return
        del self._slots[node]
        if slot.idle is not None:
            slot.idle.cancel()
        if slot.reader is not None:
            slot.reader.close()
