"""Spans of time in which something was so: a server that could not be asked, a mount that was not there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Times:
    """Spans of time that do not overlap, oldest first. One thread adds to them, any reads them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spans: list[tuple[float, float]] = []

    @contextmanager
    def during(self, after: float) -> Iterator[None]:
        """A span from now to so many seconds after the end of the block."""
        start, last = self._clock(), -math.inf
        if self._spans and self._spans[-1][1] >= start:
            start, last = self._spans.pop()
        self._spans.append((start, math.inf))
        try:
            yield
        finally:
            self._spans[-1] = (start, max(last, self._clock() + after))

    def touch(self, start: float, end: float) -> bool:
        """Whether any of them has a moment of that time."""
        for span in reversed(self._spans):
            if span[1] < start:
                return False
            if span[0] <= end:
                return True
        return False

    def before(self, moment: float, seconds: float) -> float:
        """The time from which on so many seconds outside of all spans had passed at that moment."""
        for start, end in reversed(self._spans):
            if end < moment:
                if moment - end >= seconds:
                    break
                seconds -= moment - end
            moment = min(moment, start)
        return moment - seconds
