"""The state of the link: online or offline since when, when silence is suspicious, the server's clock.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from vfs.remote.path_model import PathModel

SILENCE = 0.08
"""Seconds without a byte, while an answer is due, that make no link a silent one."""
AWAY = 1.2
"""Seconds without a byte, while an answer is due, after which the link counts as offline until the next byte comes.
The connections are kept: most such silences end."""
DAY = 86400.0


class Link:
    """The state of the link just now, and the meters behind it. All properties are cheap; times in seconds.

    `silence`: seconds for which an answer is due and no byte has come on any connection.
    """

    def __init__(self, silence: Callable[[], float] = lambda: 0.0) -> None:
        self._silence = silence
        self.connected = False
        """Whether there is a connection, silent or not."""
        self._changed = asyncio.get_running_loop().time()
        self.path = PathModel()
        self._smoothed = 0.0
        self._deviation = 0.0
        self._clock: tuple[int, float] | None = None
        self._newest = 0

    @property
    def online(self) -> bool:
        """Whether the server can be asked: there is a connection, and no answer has been due for long without a byte."""
        return self.connected and self._silence() <= max(AWAY, 2 * self.patience)

    @property
    def since(self) -> float:
        """When the present state began, in the event loop's time: offline, when the server ceased to answer."""
        if self.connected and not self.online:
            return asyncio.get_running_loop().time() - self._silence()
        return self._changed

    @property
    def silence(self) -> float:
        """For how long a request has been unanswered and no byte has come on any connection; 0.0 if none is."""
        return self._silence()

    @property
    def rtt(self) -> float:
        """The smallest round trip of the last seconds (0.0: not known)."""
        return self.path.rtt

    @property
    def patience(self) -> float:
        """The silence that a sound link may have: four round trips as they are lately, or what RFC 6298 waits if that is longer."""
        return max(SILENCE, 4 * self._smoothed, self._smoothed + 4 * self._deviation)

    def changed(self, connected: bool, at: float) -> None:
        """The first connection was made, or the last one lost, at that time of the loop."""
        if connected != self.connected:
            self.connected, self._changed = connected, at

    def new_way(self) -> None:
        """The path to the server may be another one: forget the measurements."""
        self.path.restart()
        self._smoothed = self._deviation = 0.0
        self._clock, self._newest = None, 0

    def saw_rtt(self, seconds: float, in_flight: int = 0) -> None:
        """The time from a request to its answer, one for each round trip at most; `in_flight`: bytes due before it."""
        if seconds <= 0:
            return
        self.path.saw_rtt(seconds, asyncio.get_running_loop().time(), in_flight)
        if self._smoothed == 0.0:
            self._smoothed, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(self._smoothed - seconds) - self._deviation) / 4
        self._smoothed += (seconds - self._smoothed) / 8

    def saw_clock(self, clock: tuple[int, float] | None) -> None:
        """The server's clock was read: Unix seconds, and the loop's time then. Each may be too early, so the latest counts."""
        if clock is not None and (
            self._clock is None or clock[0] - clock[1] > self._clock[0] - self._clock[1]
        ):
            self._clock = clock

    def saw_mtime(self, newest: int) -> None:
        """A file on the server was written at `newest` (Unix seconds of its clock)."""
        self._newest = max(self._newest, newest)

    @property
    def server_time(self) -> float | None:
        """A low estimate of the server's present time; None if it is not known: our own may be hours ahead."""
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
