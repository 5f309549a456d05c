"""What the path to the server carries, and how many bytes of reads to have in flight on it. Pure: times are given.

As BBR (draft-cardwell-iccrg-bbr-congestion-control): the highest delivery rate of the last round trips, the lowest round
trip of the last seconds, and a start that grows until the rate does not. What is in flight beyond their product waits in
somebody's buffer, and so does everything that a program asks for meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from vfs.base import memory

KIB = 1 << 10
MIB = 1 << 20
START = 512 * KIB
"""Bytes in flight before anything was measured."""
LEAST = 64 * KIB
FEW = 16 * KIB
"""Bytes in flight that no round trip is longer for."""
MOST = memory.IN_FLIGHT
STARTING, STEADY = 2.0, 1.25
"""Bytes in flight, in bandwidth × delay: until the rate grows no more, and from then on."""
LEAP = 32
"""The window grows by so much in one round trip at most."""
SLACK, SLACK_SECONDS = 256 * KIB, 0.02
"""Bytes in flight beyond that, for what comes in bursts; no more than the path carries in these seconds."""
OURS = 0.012
"""Seconds that an answer and the next request may wait in our own process: the least delay to reckon with."""
GROWN = 1.25
ROUNDS = 3
"""The start is over when the rate did not grow so much in so many rounds that filled the window."""
FULL = 0.75
"""From this part of the window on it is the path that bounds the rate, not the readers."""
RATE_SECONDS, RATE_ROUNDS = 1.0, 10
"""How far back the highest rate is looked for: whichever is longer."""
RTT_SECONDS = 10.0
"""How long a lowest round trip holds; then it is measured anew, with half a bandwidth × delay in flight."""
PROBE_SECONDS = 0.5
"""What measuring it may take, besides two round trips."""
BURST = 256 * KIB
"""The first bytes on an idle path tell how fast they come if they are so many."""
INSTANT = 0.002
"""Seconds within which arrivals are not told apart."""
OTHER = 4
"""So many round trips in turn of more than twice the lowest: the path is another one."""
JITTER = 0.03
"""Seconds by which the usual round trip is longer than the lowest at most; more is somebody's queue."""
MARGIN = 0.02
"""Seconds that are not worth a thought."""
DOUBTS, DOUBT_SECONDS = 2, 1.0
"""The round trip is measured anew, so often at most, when so many answers in turn took much longer than they should: one
does in a moment's stall."""
SPARE_SECONDS = 0.25
"""What may be fetched for nobody, in seconds of the path."""
SOON_SECONDS = 0.016
SHORT = 0.002
"""A round trip in seconds that only a local network has."""
FIRST_SPARE = 512 * KIB
"""The same in bytes, before anything was measured."""


class Sent(NamedTuple):
    """How things stood when a read was sent."""

    at: float
    arrived: int
    full: bool
    """Whether the window was."""
    due: float
    """When it would be answered if the path is what it is thought to be."""
    first: bool
    """Whether nothing of ours was on the path but what was sent just before."""


class PathModel:
    """Told of every read and of the times to small answers; times in seconds of one clock, sizes in bytes."""

    def __init__(self) -> None:
        self.delivered = 0
        """Bytes of reads that have come."""
        self.restart()

    def restart(self) -> None:
        """The path may be another one: nothing that was measured counts."""
        self._rtts: deque[tuple[float, float]] = deque()
        self.delay = 0.0
        """The usual round trip with nothing of ours in the way: jitter is a part of it."""
        self._clean_at = 0.0
        self._slow = self._late = 0
        self._probe_until = 0.0
        self._probed = 0.0
        self._forget_rate()

    def _forget_rate(self) -> None:
        self.measured = False
        """Whether `rate` is what the path carries, and not only what was asked of it."""
        self._rates: deque[tuple[float, float]] = deque()
        self._starting = True
        self._first_spare = FIRST_SPARE
        self._window = float(START)
        self._flight = 0.0, 0
        self._round_end = 0
        self._round_window = self._window
        self._round_full = False
        self._best = 0.0
        self._level = 0

    @property
    def rtt(self) -> float:
        """The lowest round trip lately, in seconds; 0.0: not known."""
        return self._rtts[0][1] if self._rtts else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second that the path carries, as far as it was tried; 0.0: not tried."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def spare(self) -> int:
        """Bytes that may be fetched for nobody."""
        return max(LEAST, int(SPARE_SECONDS * self.rate)) if self.measured else self._first_spare

    @property
    def soon(self) -> int:
        """Bytes that come within `SOON_SECONDS`. A path that was not measured is taken for a fast one if it is short."""
        if self.measured:
            return int(SOON_SECONDS * self.rate)
        return MIB if 0 < self.rtt < SHORT else 0

    @property
    def probing(self) -> bool:
        """Whether the round trip is being measured anew: a small request is wanted once little is in flight."""
        return self._probe_until > 0

    @property
    def little(self) -> int:
        """Bytes in flight that keep no answer waiting."""
        little = int(self.rate * self.rtt / 2)
        return little if little >= LEAST else 0

    @property
    def clear(self) -> int:
        """Bytes in flight behind which a round trip can be measured."""
        return max(self.little, FEW)

    @property
    def window(self) -> int:
        """Bytes of reads that fill the path when they are in flight."""
        return int(self._window)

    @property
    def piece(self) -> int:
        """Bytes to ask for with one read, so that a few of them fill the window: 16 KiB to 1 MiB."""
        return min(MIB, max(LEAST // 4, 1 << (int(self._window) // 4).bit_length() - 1))

    def allowed(self, now: float) -> int:
        """Bytes of reads to have in flight just now."""
        if now >= self._probe_until > 0:
            self._probe_until = 0.0
        return int(self.little if self.probing else self._window)

    # --- round trips ----------------------------------------------------------------------------------------------

    def saw_rtt(self, seconds: float, now: float, in_flight: int) -> None:
        """A small request took so long to be answered, with so many bytes of reads in flight when it was sent."""
        if seconds <= 0:
            return
        if not self.rtt:
            self.delay = seconds
        elif in_flight > self.clear and seconds >= self.rtt:
            late = self.measured and seconds > 2 * (self.delay + in_flight / max(self.rate, 1.0)) + MARGIN
            self._late = self._late + 1 if late else 0
            if self._late >= DOUBTS and now - self._probed > DOUBT_SECONDS:
                self._probe(now)  # either the rate fell or the way is longer
            return
        slow = bool(self.rtt) and seconds > 2 * self.rtt + MARGIN
        self._slow = self._slow + 1 if slow else 0
        if self._slow == OTHER:
            self._rtts.clear()
            self.delay = seconds
            self._forget_rate()
        while self._rtts and (self._rtts[-1][1] >= seconds or now - self._rtts[0][0] > RTT_SECONDS):
            self._rtts.pop() if self._rtts[-1][1] >= seconds else self._rtts.popleft()
        self._rtts.append((now, seconds))
        smoothed = self.delay + (seconds - self.delay) / (2 if now - self._clean_at > 1 else 4)
        self.delay = min(max(self.rtt, smoothed), self.rtt + JITTER)
        self._clean_at = now
        if not slow or self._slow == OTHER:
            self._probe_until = 0.0
        elif self.probing:
            self._probe_until = now + PROBE_SECONDS + 2 * seconds

    def _probe(self, now: float) -> None:
        self._probed, self._probe_until = now, now + PROBE_SECONDS + 2 * self.delay

    # --- reads ----------------------------------------------------------------------------------------------------

    def saw_first(self, rate: float) -> None:
        """A few bytes came at so many per second, before any read: the path carries as much, and perhaps far more."""
        if not self.measured:
            self._first_spare = max(FIRST_SPARE, int(SPARE_SECONDS * rate))
            self._window = min(max(START, STARTING * rate * self.delay), MOST)
            self._round_window = self._window

    def sent(self, size: int, now: float, in_flight: int, arrived: int) -> Sent:
        """A read of `size` is sent, with `in_flight` bytes of reads before it; `arrived`: all bytes that have come."""
        if not in_flight:
            self._flight = now, arrived
        if now - max(self._clean_at, self._probed) > RTT_SECONDS and self.rtt:
            self._probe(now)
        full = in_flight + size >= FULL * self._window and not self.probing
        due = now + self.delay + (in_flight + size) / max(self.rate, 1.0)
        began, before = self._flight
        return Sent(now, arrived, full, due, arrived == before and now - began <= self.rtt)

    def received(self, size: int, sent: Sent, now: float, arrived: int) -> None:
        """A read was answered with `size` bytes."""
        self.delivered += size
        if sent.arrived >= self._round_end:
            self._new_round(arrived)
        late = self.measured and now > sent.due + max(0.3, self.delay)
        full = sent.full or late
        self._round_full |= full
        rate = (arrived - sent.arrived) / max(INSTANT, now - sent.at)
        began, before = self._flight
        if self._starting and sent.first and arrived - before >= BURST:
            rate = max(rate, (arrived - before) / max(INSTANT, now - began - self.rtt))
            full = True
        self.measured |= full
        if late:
            self._rates.clear()  # it fell: what was carried before does not count
        if full or rate > self.rate:
            self._add(rate, now)
        if self.measured:
            self._resize()

    def _add(self, rate: float, now: float) -> None:
        """Take a rate into the highest of late. Only what fills the path lets an older one go."""
        rates = self._rates
        while rates and rates[-1][1] <= rate:
            rates.pop()
        rates.append((now, rate))
        while now - rates[0][0] > max(RATE_SECONDS, RATE_ROUNDS * self.delay):
            rates.popleft()

    def _new_round(self, arrived: int) -> None:
        if self._starting and self._round_full:
            if self.rate >= GROWN * self._best:
                self._best, self._level = self.rate, 0
            else:
                self._level += 1
                self._starting = self._level < ROUNDS
        self._round_end, self._round_window, self._round_full = arrived, self._window, False

    def _resize(self) -> None:
        gain = STARTING if self._starting else STEADY
        window = gain * self.rate * max(self.delay, OURS) + min(SLACK, SLACK_SECONDS * self.rate)
        self._window = min(max(window, LEAST), LEAP * self._round_window, MOST)
