"""How fast bytes come: a rate over the last seconds."""

from __future__ import annotations

from collections import deque

SECONDS = 3.0
"""The rate is that of so many seconds."""
SLOT = 0.25
"""Counts closer together than this are one entry."""


class Meter:
    """Counts bytes; times in seconds of one clock, not falling."""

    __slots__ = ("_entries", "_lately")

    def __init__(self) -> None:
        self._entries: deque[list[float]] = deque()
        self._lately = 0.0

    def add(self, count: int, now: float) -> None:
        """`count` bytes have come."""
        if self._entries and now - self._entries[-1][0] < SLOT:
            self._entries[-1][1] += count
        else:
            self._entries.append([now, count])
        self._lately += count
        self._forget(now)

    def rate(self, now: float) -> float:
        """Bytes per second over the last `SECONDS`, or since the first of them."""
        self._forget(now)
        if not self._entries:
            return 0.0
        return self._lately / max(SLOT, now - self._entries[0][0])

    def _forget(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] > SECONDS:
            self._lately -= self._entries.popleft()[1]
