"""Things that lie one after the other in a file (tensors, members of an archive), and which of them a read
begins.

A mapped file is read through page faults. For a fault the kernel asks for a window around the page (half of
it before), less the pages that it has; for what follows it asks for the next window, and so on. So a tensor
that is being read shows as a read whose middle lies in the tensor, near its start, and that does not continue
an earlier one. Measured with Linux 6.18, windows of 128 and 256 KiB.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from vfs.formats.api import PAGE, Range

LARGEST = 8 << 20
"""Bytes. A larger thing is left to readahead: its reader may want a slice of it."""

LEAD = (128 << 10) + 2 * PAGE
"""Bytes from a thing's start that may be with the kernel already, from a window around something before it.
"""

GAP = 2 * PAGE
"""Bytes that a sequential reader may skip because the kernel has them already: a local header."""


class Items:
    """`starts` ascending; each thing reaches to the next start, the last one to `end`."""

    def __init__(self, starts: Sequence[int], end: int) -> None:
        self._starts = starts
        self._end = end
        # Where the last reads ended, of several readers, and whether each continued an earlier one.
        self._ends: deque[tuple[int, bool]] = deque(maxlen=8)

    def at(self, offset: int) -> int:
        """The index of the thing that holds `offset`; -1 before the first."""
        return bisect_right(self._starts, offset) - 1

    def range(self, index: int) -> Range:
        """Where the thing lies."""
        following = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return Range(self._starts[index], following)

    def begun(self, touched: Range) -> Range | None:
        """What is left of the thing whose reading `touched` begins, if it is a small one."""
        continues = any(
            end == touched.start or (ran and 0 <= touched.start - end <= GAP) for end, ran in self._ends
        )
        self._ends.append((touched.end, continues))
        if continues:
            return None
        index = self.at(min(touched.start + len(touched) // 2 + PAGE, touched.end) - 1)
        if index < 0:
            return None
        thing = self.range(index)
        if thing.start < touched.start - LEAD or len(thing) > LARGEST:
            return None
        if thing.end - touched.end <= len(touched) // 16:  # nearly all of it: not worth a request of its own
            return None
        return Range(touched.end, thing.end)
