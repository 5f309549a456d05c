"""The link to a server in memory, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vfs.remote.connectivity import SILENCE, Link


class MemoryLink(Link):
    """`rtt`: seconds. `tells_time`: whether the server's clock can be read."""

    rtt = 0.0

    def __init__(self, latency: float, clock: Callable[[], float]) -> None:
        super().__init__(self._unanswered)
        self.rtt = latency
        self._time = clock
        self._loop = asyncio.get_running_loop()
        self.tells_time = True
        self.waiting: dict[object, float] = {}
        """When each request that is under way was sent."""
        self.last_received = self._loop.time()
        self.connected = True

    def _unanswered(self) -> float:
        if not self.waiting:
            return 0.0
        return max(0.0, self._loop.time() - max(min(self.waiting.values()), self.last_received))

    @property
    def patience(self) -> float:
        return max(SILENCE, 4 * self.rtt)

    @property
    def server_time(self) -> float | None:
        return float(int(self._time())) if self.tells_time else None

    @property
    def past(self) -> float | None:
        return self.server_time
