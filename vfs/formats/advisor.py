"""Drives a format's steps: `Advisor` for the hints of an open file, `Verdict` for completeness, `run` to inspect a file.

The first two go on in small steps, between which the event loop does other work. What a format wants is granted within a
budget, so that wrong hints waste a bounded number of bytes.
"""

from __future__ import annotations

import logging
import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from vfs.formats.api import PAGE, PIECE, Known, Misfit, Need, Range, Sparse, Steps, Touched, Want
from vfs.formats.limits import TooLarge

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_RANGES = 20_000
"""Ranges granted for one open file at most, and ranges that wait to be granted."""

AT_ONCE = 500
"""Ranges that are wanted or granted in one step of the event loop."""

# What parsing bytes of any kind can raise: the end of a hint, never of a read.
UNFIT = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, struct.error)


class Budget:
    """Grants ranges while those that were granted and not read yet stay within max(4 MiB, 5 % of the file), or less.

    What does not fit waits; it is granted, in order, once half of the budget has been read. Of more than `MOST_RANGES` the
    oldest are forgotten.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = self._most = max(4 << 20, size // 20)
        self.unread = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._waiting: deque[Range] = deque(maxlen=MOST_RANGES)
        self._left = MOST_RANGES
        self._flowing = True

    def within(self, spare: int) -> None:
        """Also stay within `spare` bytes, the link's present allowance for speculative reads."""
        self.limit = min(self._most, spare)
        if self.unread <= self.limit // 2:
            self._flowing = True

    def begin_anew(self) -> None:
        """The reader turns out to be of another kind: forget what was foreseen for the first one."""
        self.unread = 0
        self._starts, self._ends, self._flowing = [], [], True
        self._waiting.clear()

    @property
    def ready(self) -> bool:
        """Whether `grant` has more to give at once."""
        return self._flowing and bool(self._waiting)

    @property
    def waiting(self) -> int:
        """Ranges that were wanted and not granted yet."""
        return len(self._waiting)

    def want(self, ranges: Iterable[Range], *, urgent: bool = False) -> None:
        """Queue `ranges`, rounded to pages, with neighbours joined."""
        joined: list[Range] = []
        for one in ranges:
            wide = one.pages(self.size)
            if not len(wide):
                continue
            if joined and joined[-1].start <= wide.start <= joined[-1].end + PAGE:
                joined[-1] = Range(joined[-1].start, max(joined[-1].end, wide.end))
            elif len(joined) < MOST_RANGES:
                joined.append(wide)
        if urgent:
            self._waiting.extendleft(reversed(joined))
            self._flowing = True
        else:
            self._waiting.extend(joined)

    def read(self, touched: Range) -> None:
        """`touched` is being read: ranges granted up to its end count as used."""
        i = bisect_right(self._ends, touched.start)
        while i < len(self._starts) and self._starts[i] < touched.end:
            start, end = self._starts[i], self._ends[i]
            self.unread -= min(end, touched.end) - start
            if end > touched.end:
                self._starts[i] = touched.end
                break
            del self._starts[i], self._ends[i]
        if self.unread <= self.limit // 2:
            self._flowing = True

    def grant(self) -> tuple[Range, ...]:
        """What to fetch now, at most some `AT_ONCE` ranges."""
        granted: list[Range] = []
        while self._flowing and self._waiting and self._left and len(granted) < AT_ONCE:
            first = self._waiting.popleft()
            for new in self._without_unread(first):
                room = (self.limit - self.unread) // PAGE * PAGE
                if len(new) > room:
                    self._waiting.appendleft(Range(new.start + room, first.end))
                    self._flowing = False
                    new = Range(new.start, new.start + room)
                if len(new):
                    self._hold(new)
                    granted.append(new)
                if not self._flowing:
                    break
        if not self._left:
            self._waiting.clear()
        return tuple(granted)

    def _without_unread(self, one: Range) -> list[Range]:
        parts = []
        start = one.start
        i = bisect_right(self._ends, start)
        while i < len(self._starts) and self._starts[i] < one.end:
            if self._starts[i] > start:
                parts.append(Range(start, self._starts[i]))
            start = self._ends[i]
            i += 1
        if start < one.end:
            parts.append(Range(start, one.end))
        return parts

    def _hold(self, new: Range) -> None:
        i = bisect_left(self._starts, new.start)
        self._starts.insert(i, new.start)
        self._ends.insert(i, new.end)
        self.unread += len(new)
        self._left -= 1


class Advisor:
    """The hints for one open file. Tell it each read; it says what to fetch along with it.

    `finished` once it has nothing more to say (it need not be asked again); `sparse` once it knows that the
    reader jumps, so that fetching more than was asked for is a waste. Hints are only hints: fetching them
    late, in part or not at all is right too.
    """

    def __init__(self, steps: Steps[None], size: int) -> None:
        self.budget = Budget(size)
        self.sparse = False
        self._steps: Steps[None] | None = steps
        self._at: Need | Touched | None = None
        self._asked = False
        self._last = Range(0, 0)
        self._paused = False

    @property
    def finished(self) -> bool:
        return self._steps is None and not self.budget.waiting

    @property
    def paused(self) -> bool:
        """Whether it stopped only to let others go on: call `advise` again soon, with the same read."""
        return self._paused or self.budget.ready

    def advise(self, known: Known, touched: Range) -> tuple[Range, ...]:
        """The ranges to fetch now, in one batch, given that `touched` is being read.

        Whole pages, clipped at the end of the file, most urgent first; they may be known already, and may
        overlap `touched`. Call it when the read is asked for, and again when its bytes are known if it was a
        miss: each call may find more. Never raises on account of the file's bytes.
        """
        self.budget.read(touched)
        if self._steps is not None:
            try:
                self._advance(self._steps, known, touched)
            except StopIteration:
                self._steps = None
            except (*UNFIT, TooLarge) as e:
                log.debug("no more hints: %s", e)
                self._steps = None
        return self.budget.grant()

    def _advance(self, steps: Steps[None], known: Known, touched: Range) -> None:
        unseen = touched != self._last  # a miss is reported twice: when it is asked for, and when it has come
        answer: bytes | Range | None = None
        done = 0
        self._paused = False
        while True:
            if done >= PIECE:
                self._paused = True
                return
            if isinstance(self._at, Need):
                wanted = self._at.range
                if not 0 <= wanted.start <= wanted.end <= self.budget.size:
                    raise Misfit(f"{wanted} is outside the file")
                answer = known.get(wanted.start, len(wanted))
                if answer is None:
                    comes_anyway = touched.start <= wanted.start and wanted.end <= touched.end
                    if not self._asked and not comes_anyway:
                        self._asked = True
                        self.budget.want([wanted], urgent=True)
                    return
                self.budget.read(wanted)  # the format has used them
                done += len(answer)
            elif isinstance(self._at, Touched):
                if not unseen:
                    return
                unseen = False
                self._last = touched
                answer = touched
            step = steps.send(answer)
            answer, self._at, self._asked = None, None, False
            match step:
                case Want(ranges):
                    self.budget.want(ranges)
                    done += len(ranges) * (PIECE // AT_ONCE)
                case Sparse():
                    self.sparse = True
                    self.budget.begin_anew()
                case Need() | Touched():
                    self._at = step


class Verdict:
    """Whether a file is complete, found out piece by piece: while something is `wanted`, `tell` it. Then `complete` is the
    answer, None where the format does not tell."""

    def __init__(self, steps: Steps[bool | None] | None, size: int) -> None:
        self.complete: bool | None = None
        self.wanted: Range | None = None
        self._size = size
        self._steps = steps
        self._go_on(None)

    def tell(self, data: bytes) -> None:
        """The bytes of `wanted`, fewer at the end of the file."""
        self._go_on(data)

    def _go_on(self, answer: bytes | None) -> None:
        self.wanted = None
        if self._steps is None:
            return
        try:
            step = self._steps.send(answer)
            while not isinstance(step, Need):
                step = self._steps.send(None)
            if 0 <= step.range.start <= step.range.end <= self._size:
                self.wanted = step.range
        except StopIteration as e:
            self.complete = e.value if isinstance(e.value, bool) else None
        except (*UNFIT, TooLarge):
            pass


def run(steps: Steps[T], read: Callable[[int, int], bytes]) -> T:
    """The result of the steps; `read(offset, length)` gives the bytes they need. Raises as they do."""
    try:
        step = next(steps)
        while True:
            step = steps.send(
                read(step.range.start, len(step.range)) if isinstance(step, Need) else None,
            )
    except StopIteration as e:
        result: T = e.value
        return result
