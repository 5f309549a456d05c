"""The link to a server in memory, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vfs.remote.sftp.connectivity import AWAY, SILENCE


class MemoryLink:
    """`api.LinkState`. `rtt`: seconds. `tells_time`: whether the server's clock can be read."""

    def __init__(self, latency: float, clock: Callable[[], float]) -> None:
        self.rtt = latency
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.connected = True
        self._changed = self._loop.time()
        self.tells_time = True
        self.waiting: dict[object, float] = {}
        """When each request that is under way was sent."""
        self.last_received = self._changed

    @property
    def online(self) -> bool:
        return self.connected and self.silence <= max(AWAY, 2 * self.patience)

    @property
    def since(self) -> float:
        return self._loop.time() - self.silence if self.connected and not self.online else self._changed

    def changed(self, connected: bool, at: float) -> None:
        """As of the real link; `at` -inf: for good."""
        self.connected, self._changed = connected, at

    @property
    def silence(self) -> float:
        if not self.waiting:
            return 0.0
        return max(0.0, self._loop.time() - max(min(self.waiting.values()), self.last_received))

    @property
    def patience(self) -> float:
        return max(SILENCE, 4 * self.rtt)

    @property
    def server_time(self) -> float | None:
        return float(int(self._clock())) if self.tells_time else None

    @property
    def past(self) -> float | None:
        return self.server_time
