"""A path with one bottleneck in virtual time: a buffer that fills, other traffic, jitter, stalls, and rates that change.

`Path` sends reads as a greedy reader does, as many as the model's window lets it, and a small request now and then.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from vfs.remote.path_model import SMALL_PIECE, PathModel, Sent

MBIT = 125_000.0
ByTime = Callable[[float], float]


def always(value: float) -> ByTime:
    return lambda now: value


@dataclass
class Path:
    """`rate` (bytes per second), `rtt` (seconds) and `other` (the share that others take) by the time."""

    rate: ByTime
    rtt: ByTime
    other: ByTime = lambda now: 0.0
    jitter: float = 0.0
    stalls: Callable[[float], float] = lambda now: 0.0
    """By the time: how long it stands still just now, in seconds."""
    greedy: Callable[[float], bool] = lambda now: True
    """Whether there is anything to read."""
    small_every: float = 0.5
    connections: int = 1
    """Reads are answered so many at a time, all at the end, as those are that share the path."""

    now: float = 100.0
    model: PathModel = field(default_factory=PathModel)
    small: list[tuple[float, float]] = field(default_factory=list)
    """When a small request was sent, and how long it took."""
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """Bytes of reads, by the time."""
    delivered: list[tuple[float, int]] = field(default_factory=list)
    """When reads came, and how many bytes."""

    def __post_init__(self) -> None:
        self._free = 0.0
        self._in_flight = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._random = random.Random(1)
        self._last = 0.0
        self._pinged = False
        self._arrived = 0
        self._group: list[Callable[[], None]] = []

    def run(self, seconds: float) -> None:
        """Let it run for so long."""
        end = self.now + seconds
        self._at(self.now, self._ask_small)
        self._at(self.now, self._look)
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._pump()
        self._events.clear()
        self.now = end

    def carried(self, since: float, until: float) -> float:
        """Bytes that came then."""
        return sum(size for at, size in self.delivered if since <= at < until)

    def capacity(self, since: float, until: float) -> float:
        """Bytes that could have come then."""
        steps = int((until - since) / 0.01)
        times = (since + 0.01 * k for k in range(steps))
        return sum(0.01 * self._rate(at) for at in times if not self.stalls(at))

    def _rate(self, now: float) -> float:
        return self.rate(now) * (1 - self.other(now))

    def _at(self, when: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, event))

    def _look(self) -> None:
        """Time goes on, also for who waits for nothing."""
        self._at(self.now + 0.05, self._look)

    def _arrival(self, size: int) -> float:
        """When an answer of `size` bytes that is asked for now has come."""
        there = self.now + self.rtt(self.now) / 2
        start = max(there, self._free)
        start += self.stalls(start)
        left = size
        while left > 0:  # at a rate that changes
            step = min(left, self._rate(start) * 0.01)
            start += step / self._rate(start)
            left -= step
        self._free = start
        noise = self._random.uniform(-self.jitter, self.jitter) / 2 if self.jitter else 0.0
        self._last = max(self._last, start + self.rtt(self.now) / 2 + noise)  # in order
        return self._last

    def _pump(self) -> None:
        window, size = self.model.allowed(self.now), self.model.piece
        room = size if size <= SMALL_PIECE and self.connections == 1 else 1
        while self.greedy(self.now) and self._in_flight < window:
            if self._in_flight and self._in_flight + room > window:
                break
            sent = self.model.sent(size, self.now, self._in_flight, self._arrived)
            self._in_flight += size
            self._at(self._arrival(size), lambda size=size, sent=sent: self._come(size, sent))
        self.in_flight.append((self.now, self._in_flight))
        if self.model.probing and not self._pinged and self._in_flight <= self.model.clear:
            self._pinged = True
            self._ping(note=False)

    def _come(self, size: int, sent: Sent) -> None:
        self._arrived += size
        self.delivered.append((self.now, size))
        self._group.append(lambda: self._answered(size, sent))
        if len(self._group) >= self.connections or len(self._group) * size >= self._in_flight:
            group, self._group = self._group, []
            for answered in group:
                answered()

    def _answered(self, size: int, sent: Sent) -> None:
        self._in_flight -= size
        self.model.received(size, sent, self.now, self._arrived)

    def _ask_small(self) -> None:
        self._ping(note=True)
        self._at(self.now + self.small_every, self._ask_small)

    def _ping(self, note: bool) -> None:
        sent, before = self.now, self._in_flight

        def answered() -> None:
            self._pinged = False
            if note:
                self.small.append((sent, self.now - sent))
            self.model.saw_rtt(self.now - sent, self.now, before)

        self._at(self._arrival(200), answered)
