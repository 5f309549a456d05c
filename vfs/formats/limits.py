"""What one look into a file may take: memory for what is made of it, and processor time.

Whoever builds something in proportion to a file's bytes asks a `Limits` first. Between two questions no more may be
done than some thousands of bytes or things take, so that what is asked is what is used, within a small factor.
"""

from __future__ import annotations

from collections.abc import Callable

from vfs.base.memory import LOOK as LOOK_BYTES

SECONDS = 1.5
"""Of processor time; up to two, since the clock is not looked at all the time."""
LOOK = 10_000
"""Steps between two looks at the clock; a step is a microsecond or a few."""
MOST_STEPS = 3_000_000

LONGEST_NAME = 1000
"""Characters or bytes of one name; a longer one is cut or refused."""
MOST_DIMENSIONS = 64
"""NumPy's and PyTorch's own limit."""


class TooLarge(Exception):
    """Nothing has to be wrong with the file, but to look into it would take too much memory or time."""


class Limits:
    """Counts down. Belongs to one thread."""

    __slots__ = ("_clock", "_end", "_memory", "_steps")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock` tells processor time; without one, steps are counted in place of seconds."""
        self._clock = clock
        self._end = clock() + SECONDS if clock is not None else 0.0
        self._memory = LOOK_BYTES
        self._steps = MOST_STEPS if clock is None else LOOK

    def take(self, memory: int = 0, steps: int = 1) -> None:
        """Before `steps` steps that leave `memory` bytes behind. Raises TooLarge."""
        self._memory -= memory
        self._steps -= steps
        if self._memory < 0:
            raise TooLarge("what it lists takes too much memory")
        if self._steps < 0:
            self._steps = LOOK
            if self._clock is None or self._clock() > self._end:
                raise TooLarge("what it lists takes too long to read")
