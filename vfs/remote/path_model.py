"""Estimates the path to the server, and how many bytes of reads to have in flight on it. Pure: times are given.

As BBR (draft-cardwell-iccrg-bbr-congestion-control): the highest delivery rate of the last round trips, the lowest round
trip of the last seconds, and a window that grows at the start until the rate does not. Bytes in flight beyond rate × delay
wait in a buffer on the path, and delay everything that a program asks for meanwhile.
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
"""Bytes in flight that make no round trip longer."""
SMALL_PIECE = 256 * KIB
"""Reads up to this long are sent when all of them fits into what may be in flight. Larger ones go over several connections,
which answer when they like: there rather too much is in flight than too little."""
MOST = memory.IN_FLIGHT
STARTING, STEADY = 2.0, 1.25
"""The window, in bandwidth × delay: while the rate still grows, and from then on."""
LEAP = 32
"""The most by which the window is multiplied in one round trip."""
SLACK, SLACK_SECONDS = 256 * KIB, 0.01
"""Bytes in flight beyond that, since answers come in bursts; at most what the path carries in SLACK_SECONDS."""
OURS = 0.012
"""Seconds that an answer and the next request may wait in our own process: the least delay to reckon with."""
GROWN = 1.25
ROUNDS = 3
"""The start is over when the rate grew by less than GROWN in each of ROUNDS rounds that filled the window."""
FULL = 0.75
"""The part of the window that must be in flight for the path, not the readers, to bound the rate."""
RATE_SECONDS, RATE_ROUNDS = 1.0, 10
"""How far back the highest rate is looked for: whichever is longer."""
RATE_HOLDS = 10.0
"""Seconds after which a rate that no reads confirmed is looked for anew, with `START` in flight at most."""
RTT_SECONDS = 10.0
"""How long a lowest round trip holds; then it is measured anew, with half a bandwidth × delay in flight."""
PROBE_SECONDS = 0.5
"""Seconds that this may take, besides two round trips."""
BURST = 256 * KIB
"""First bytes on an idle path from which their rate can be told."""
INSTANT = 0.002
"""Seconds between two arrivals below which they count as simultaneous."""
OTHER = 4
"""After this many round trips in turn of more than twice the lowest one, the path counts as another."""
JITTER = 0.03
"""The most by which jitter makes the usual round trip longer than the lowest, in seconds; more is a queue."""
STALL = 0.3
"""Seconds for which reads may be late without a change of the path: it stands still, or others use it."""
MARGIN = 0.02
"""Seconds of delay that are ignored."""
SPARE_SECONDS = 0.25
"""Speculative reads in flight, in seconds of the path."""
SOON_SECONDS = 0.016
SHORT = 0.002
"""Seconds; only a local network has a round trip below."""
FIRST_SPARE = 512 * KIB
"""Bytes of speculative reads before anything was measured."""
FAST = 16e6
"""Bytes per second from which a window that is not read is over soon."""
EARLY_PART = 4
"""The part of bandwidth × delay to ask for early on a slower path."""
SLOW_START = 3
"""TCP's slow start makes 64 KiB take two round trips more. A path on which they take this many more is slow for good."""


class Sent(NamedTuple):
    """The state when a read was sent."""

    at: float
    arrived: int
    full: bool
    """Whether the window was full."""
    due: float
    """When the model expected its answer."""
    first: bool
    """Whether the path was idle, but for reads sent just before."""


class PathModel:
    """Takes in every read, and each round trip of a small request. Times are seconds of one clock, sizes bytes."""

    def __init__(self) -> None:
        self.delivered = 0
        """Bytes of reads that have come."""
        self.restart()

    def restart(self) -> None:
        """The path may be another one: nothing that was measured counts."""
        self._rtts: deque[tuple[float, float]] = deque()
        self.delay = 0.0
        """The usual round trip without a queue of ours, jitter included."""
        self._clean_at = 0.0
        self._slow = 0
        self._probe_until = 0.0
        self._probed = 0.0
        self._forget_rate()

    def _forget_rate(self) -> None:
        self.measured = False
        """Whether the path bounded `rate`, and not the readers."""
        self._rates: deque[tuple[float, float]] = deque()
        self._starting = True
        self._first_spare = FIRST_SPARE
        self._first_rate = 0.0
        self._window = float(START)
        self._flight = 0.0, 0
        self._round_end = 0
        self._round_window = self._window
        self._round_full = False
        self._best = self._grew_at = 0.0
        self._level = 0
        self._old = False
        self._late_since = 0.0
        """When the first of the reads came that were late without a break; 0.0: the last was not."""

    @property
    def rtt(self) -> float:
        """The lowest recent round trip in seconds; 0.0: not known."""
        return self._rtts[0][1] if self._rtts else 0.0

    @property
    def rate(self) -> float:
        """The highest recent rate in bytes per second; 0.0: none was measured."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def told(self) -> bool:
        """Whether anything is known of the rate."""
        return self.measured or self._first_rate > 0

    @property
    def spare(self) -> int:
        """Bytes of speculative reads that may be in flight."""
        return max(LEAST, int(SPARE_SECONDS * self.rate)) if self.measured else self._first_spare

    @property
    def early(self) -> int:
        """Bytes of speculative reads in flight for a reader that may have read all that it wants."""
        rate = self.rate if self.measured else self._first_rate
        if not 0 < rate < FAST:
            return self.spare
        return min(self.spare, max(FEW, int(rate * self.delay) // EARLY_PART))

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
        """Bytes to ask for with one read: 8 KiB to 1 MiB, a quarter of the window to an eighth. Small ones are half as
        long, since what is left of the window behind the last that fits must be less than what it grows by."""
        piece = 1 << (int(self._window) // 4).bit_length() - 1
        return min(MIB, max(LEAST // 8, piece if piece > SMALL_PIECE else piece // 2))

    def allowed(self, now: float) -> int:
        """Bytes of reads to have in flight just now."""
        if now >= self._probe_until > 0:
            self._probe_until = 0.0
        if self._rates and now - self._rates[-1][0] > RATE_HOLDS and not self._old:
            self._old = self._starting = True
            self._best, self._level = 0.0, 0
            self._window = self._round_window = min(self._window, START)
        return int(min(self.little, self._window) if self.probing else self._window)

    # --- round trips ----------------------------------------------------------------------------------------------

    def saw_rtt(self, seconds: float, now: float, in_flight: int) -> None:
        """A small request took `seconds` to its answer; `in_flight` bytes of reads were due when it was sent."""
        if seconds <= 0:
            return
        if not self.rtt:
            self.delay = seconds
        elif OTHER * (seconds + INSTANT) < self.rtt:
            self.delay = seconds
            self._forget_rate()
        elif in_flight > self.clear and seconds >= self.rtt:
            return
        slow = bool(self.rtt) and seconds > 2 * self.rtt + MARGIN
        self._slow = self._slow + 1 if slow else 0
        if self._slow == OTHER:
            self._rtts.clear()
            self.delay = seconds
            self._forget_rate()
        elif self.probing and not slow:
            self._rtts.clear()
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

    def _probe(self, now: float, seconds: float) -> None:
        """Measure the round trip, which took `seconds` lately, anew."""
        self._probed, self._probe_until = now, now + PROBE_SECONDS + 2 * seconds

    # --- reads ----------------------------------------------------------------------------------------------------

    def saw_first(self, rate: float) -> None:
        """A few bytes came at this rate before any read: the path carries at least as much."""
        if not self.measured:
            self._first_rate = rate
            slow = 0 < rate * SLOW_START * self.delay < LEAST
            self._first_spare = max(LEAST if slow else FIRST_SPARE, int(SPARE_SECONDS * rate))
            self._window = min(max(LEAST if slow else START, STARTING * rate * self.delay), MOST)
            self._round_window = self._window

    def sent(self, size: int, now: float, in_flight: int, arrived: int) -> Sent:
        """A read of `size` is sent, with `in_flight` bytes of reads before it; `arrived`: all bytes that have come."""
        if not in_flight:
            self._flight = now, arrived
        if now - max(self._clean_at, self._probed) > RTT_SECONDS and self.rtt:
            self._probe(now, self.delay)
        full = in_flight + size >= FULL * self._window and not self.probing
        due = now + self.delay + (in_flight + size) / max(self.rate, 1.0)
        began, before = self._flight
        return Sent(now, arrived, full, due, arrived == before and now - began <= self.rtt)

    def received(self, size: int, sent: Sent, now: float, arrived: int) -> None:
        """A read was answered with `size` bytes."""
        self.delivered += size
        self._look_for_a_longer_way(sent, now)
        if sent.arrived >= self._round_end:
            self._new_round(arrived, now)
        late = self.measured and now > sent.due + max(STALL, self.delay)
        full = sent.full or late
        self._round_full |= full
        rate = (arrived - sent.arrived) / max(INSTANT, self.rtt, now - sent.at)
        began, before = self._flight
        if self._starting and sent.first and arrived - before >= BURST:
            rate = max(rate, (arrived - before) / max(INSTANT, now - began - self.rtt))
            full = True
        self.measured |= full
        if late or (full and self._old):
            self._rates.clear()  # it fell, or may have: older rates do not count
            self._old = False
        if full or rate > self.rate:
            self._add(rate, now)
        if self.measured and not self._old:
            self._resize()

    def _add(self, rate: float, now: float) -> None:
        """Take a rate into the maximum. Only a rate that fills the path makes an older one expire."""
        rates = self._rates
        while rates and rates[-1][1] <= rate:
            rates.pop()
        rates.append((now, rate))
        while now - rates[0][0] > self._lately:
            rates.popleft()

    @property
    def _lately(self) -> float:
        return max(RATE_SECONDS, RATE_ROUNDS * self.delay)

    def _look_for_a_longer_way(self, sent: Sent, now: float) -> None:
        """Measure the round trip anew if reads are late, and one that was sent after the first late one is, too: after a
        stall it is not. The rate tells only when its maximum of the last second is over."""
        if not self.measured or now - sent.due < JITTER + self.rtt / 2:
            self._late_since = 0.0
        elif not self._late_since:
            self._late_since = now if self._settled(now) else 0.0
        elif sent.at > self._late_since and now > self._late_since + STALL:
            self._probe(now, now - sent.at)
            self._late_since = 0.0

    def _settled(self, now: float) -> bool:
        """Whether no burst may have made the rate look higher than it is."""
        return now - max(self._grew_at, self._probed) > 1.5 * self._lately

    def _new_round(self, arrived: int, now: float) -> None:
        if self._round_full:
            grew, fell = self.rate >= GROWN * self._best, GROWN * self.rate < self._best
            self._level = 0 if grew else self._level + 1
            self._starting = self._level < ROUNDS
            if grew or fell:
                self._best = self.rate
            if grew:
                self._grew_at = now
            elif fell and self._settled(now):
                self._probe(now, self.delay)  # the way may be longer
        self._round_end, self._round_window, self._round_full = arrived, self._window, False

    def _resize(self) -> None:
        gain = STARTING if self._starting else STEADY
        window = gain * self.rate * max(self.delay, OURS) + min(SLACK, SLACK_SECONDS * self.rate)
        self._window = min(max(window, LEAST), LEAP * self._round_window, MOST)
