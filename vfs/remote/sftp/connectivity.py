"""What is known of the link: online or offline since when, how fast it is, what the server's clock says; and backoff.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

FIRST_RETRY = 1.0
LAST_RETRY = 30.0
GROWTH = 1.3
"""Each wait is so much longer than the one before: at most a third of the time that the link has been down."""
SILENCE = 0.08
"""Seconds without a byte, while an answer is due, that make no link a silent one."""
DAY = 86400.0
RATE_SECONDS = 10.0
"""How far back the best delivery rate is looked for."""


def backoff(attempt: int, chance: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0): 1, 1.3, 1.7 … 30, each shortened by up to a half.

    `chance`: a random number from 0 to 1, so that many clients do not come back at once.
    """
    return float(min(LAST_RETRY, FIRST_RETRY * GROWTH ** min(attempt, 20)) * (1 - chance / 2))


class Link:
    """The state that `api.LinkState` promises, and the meters behind it.

    `silence`: seconds for which an answer is due and no byte has come on any connection.
    """

    def __init__(self, silence: Callable[[], float] = lambda: 0.0) -> None:
        self._silence = silence
        self.online = False
        self.since = asyncio.get_running_loop().time()
        self.rtt = 0.0
        self._smoothed = 0.0
        self._deviation = 0.0
        self._clock: tuple[int, float] | None = None
        self._newest = 0
        self._rates: deque[tuple[float, float]] = deque()
        self.delivered = 0
        """Bytes of reads that have come, over all connections."""

    def __repr__(self) -> str:
        return f"<Link {'online' if self.online else 'offline'}, rtt {self.rtt * 1000:.1f} ms>"

    @property
    def silence(self) -> float:
        """See `api.LinkState`."""
        return self._silence()

    @property
    def patience(self) -> float:
        """See `api.LinkState`: four round trips as they are lately, or as long as RFC 6298 waits, whichever is longer."""
        return max(SILENCE, 4 * self._smoothed, self._smoothed + 4 * self._deviation)

    def changed(self, online: bool, at: float) -> None:
        """The link came up, or went down, at that time of the loop."""
        if online != self.online:
            self.online, self.since = online, at

    def new_way(self) -> None:
        """The way to the server may be another one: what was measured does not count."""
        self.rtt = self._smoothed = self._deviation = 0.0
        self._clock, self._newest = None, 0

    def saw_rtt(self, seconds: float) -> None:
        """The time from a request to its answer, one for each round trip at most."""
        if seconds <= 0:
            return
        if self.rtt == 0.0:
            self.rtt, self._smoothed, self._deviation = seconds, seconds, seconds / 2
            return
        self.rtt = min(self.rtt, seconds)
        self._deviation += (abs(self._smoothed - seconds) - self._deviation) / 4
        self._smoothed += (seconds - self._smoothed) / 8

    def saw_clock(self, clock: tuple[int, float] | None) -> None:
        """The server's clock was read: Unix seconds, and the loop's time then. The latest of what is told counts,
        since each may be too early."""
        if clock is not None and (
            self._clock is None or clock[0] - clock[1] > self._clock[0] - self._clock[1]
        ):
            self._clock = clock

    def saw_mtime(self, newest: int) -> None:
        """A file on the server was written at `newest` (Unix seconds of its clock)."""
        self._newest = max(self._newest, newest)

    @property
    def server_time(self) -> float | None:
        """A low estimate of the server's present time; None where it does not tell: ours may be hours ahead of it."""
        if self._clock is None:
            return None
        seconds, at = self._clock
        return seconds + asyncio.get_running_loop().time() - at

    @property
    def past(self) -> float | None:
        """A time (Unix seconds) that is over by the server's clock; None if none is known.

        It is the server's time if that was told. Otherwise a day before the newest mtime that was seen, or before our
        own time if that is earlier: of the clocks there one may be ahead by up to a day.
        """
        if self._clock is not None or not self._newest:
            return self.server_time
        return min(self._newest, time.time()) - DAY

    def sample(self, size: int, began: float, delivered_then: int) -> None:
        """`size` bytes came, asked for at `began` when `delivered_then` bytes had come before."""
        now = asyncio.get_running_loop().time()
        self.delivered += size
        if now > began:
            self._rates.append((now, (self.delivered - delivered_then) / (now - began)))
        while self._rates and now - self._rates[0][0] > RATE_SECONDS:
            self._rates.popleft()
        while len(self._rates) > 256:
            self._rates.popleft()

    @property
    def rate(self) -> float:
        """The best delivery rate seen lately, in bytes per second."""
        now = asyncio.get_running_loop().time()
        return max((rate for at, rate in self._rates if now - at <= RATE_SECONDS), default=0.0)
