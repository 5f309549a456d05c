"""How an open file is read, and which range to ask for next. Pure.

The kernel reads ahead 128 KiB, 1 MiB at most, so filling a long link is our work. A run of adjacent requests opens a window
in proportion to its length; a seek closes it. The caller bounds the window by what fills the link, and by what may be
fetched in vain. Where a program left one file, it is expected to leave the next: `file *` reads the head of each.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
USUAL, MOST = 128 * KIB, 1024 * KIB
"""The kernel's readahead: its default, and the most."""
GROWTH, SLOW_GROWTH = 8, 2
"""The window is this many times the run: 2 MiB after the first 256 KiB, 16 MiB after 2 MiB, within `spare`; or on a slow link."""
PAGE = 4 * KIB
RANDOM_UNIT = 32 * KIB
"""A small read at a random place is rounded to multiples of this, unless the link is slow."""
ROUNDED = 16
"""A rounded read costs no more than this fraction of `spare`, 16 ms of the link."""
FIRST = 128 * KIB
"""The kernel's request when a program reads a file from its beginning in large pieces. As much is asked for beyond it as
fills the link, one round trip before the run shows: it is most likely read whole."""
SHOWN = 3
"""So many of the kernel's usual requests show a reader in sequence: two come for one that reads the first 100 kB and stops."""
AHEAD_UNIT = 512 * KIB
"""Readahead is asked for in steps no smaller than this, so that requests stay large."""
FROM_DISK = 16 * KIB * KIB
"""Bytes read ahead from the disk, in steps of a quarter."""
STEPS = 4
"""Steps per window at least, so that a small window never runs dry."""
WHOLE = 1024 * KIB
"""A window of several of these ends at a multiple of it, so that whole blocks are asked for."""


@dataclass(slots=True)
class Readahead:
    """The access pattern of one open file. Offsets in bytes."""

    run_start: int = -1
    run: int = 0
    """Bytes that the run has read so far, gaps not counted."""
    position: int = -1
    """Where the run ends so far; the next request of a sequential reader starts here."""
    frontier: int = 0
    """Everything of the run before this was asked for already."""
    eager: bool = True
    """Whether a large first read at the beginning opens a window at once."""
    bound: int = 0
    """Bytes of a run beyond which readahead waits until the program has read on: the last file that a program left or, on a
    slow link, the last run in this file was as long. 0: there was none."""
    kernel: int = USUAL
    """The kernel's readahead. Its requests may be out of order by about as much, which is no seek."""
    slow: bool = False
    """Whether less was asked for early than later: on a slow link."""

    @property
    def earned(self) -> int:
        """Bytes of the run if it is as long as one and a half of the kernel's usual requests, else 0.

        Two large requests count as two usual ones: the kernel sends as many for a tensor of 256 KiB that is mapped, and
        nobody may read what they bring.
        """
        earned = self.run - 2 * (self.kernel - USUAL)
        return earned if 2 * earned >= 3 * USUAL else 0

    @property
    def left(self) -> int | None:
        """If the run ended now: how far it came from the beginning of the file, though more was asked for."""
        if self.run_start != 0 or (self.frontier - self.position < AHEAD_UNIT and not self._at_bound):
            return None
        return self._expected

    @property
    def _at_bound(self) -> bool:
        return bool(self.bound) and 0 <= self.position - self.run_start - self.bound <= self.kernel

    @property
    def _expected(self) -> int:
        """The length of the next run, if the present one ended now: its own, if more was asked for; 0: not known."""
        if self._at_bound:
            return self.bound
        return self.position - self.run_start if self.frontier > self.position else 0

    def touch(self, start: int, end: int) -> None:
        """Note a request for [start, end)."""
        if self.run_start <= start <= self.position + self.kernel and self.position >= 0:
            self.run += max(0, end - max(start, self.position))
            self.position = max(self.position, end)
        else:
            if self.slow and self.position >= 0:
                self.bound = self._expected
            self.run_start, self.position, self.frontier, self.run = start, end, end, end - start

    def demand(self, start: int, end: int, size: int, spare: int) -> tuple[int, int]:
        """The range to fetch for a request [start, end) of a program; never less than the request.

        `spare`: bytes that may be fetched in vain.
        """
        if self.earned:
            return start, end
        unit = min(RANDOM_UNIT, max(PAGE, 1 << (spare // ROUNDED).bit_length() - 1))
        return start - start % unit, min(size, end + -end % unit)

    def ahead(
        self,
        size: int,
        limit: int,
        spare: int,
        growth: int = GROWTH,
        unit: int = AHEAD_UNIT,
        early: int | None = None,
    ) -> tuple[int, int] | None:
        """The range to fetch beyond the run now, or None.

        `limit`: bytes in flight that fill the link. `spare`: bytes that may be fetched in vain; a run that was twice as long
        has earned half of it. `growth`: how many times the run the window may be; 1 for a reader that is known to jump. `unit`:
        bytes that are worth asking for. `early`: the most before a reader in sequence shows, a quarter of what fills a slow
        link; None: no less than later.
        """
        self.slow = early is not None and early < spare
        if early is not None:
            spare = min(spare, max(spare // 2, 3 * early))
        window = min(limit, max(spare, self.earned // 2))
        if not (self.eager and growth > 1 and self.run_start == 0) or self.run < FIRST:
            window = min(window, (min(growth, SLOW_GROWTH) if self.slow else growth) * self.earned)
        if early is not None and self.run < SHOWN * USUAL:
            window = min(window, early)
        start = max(self.frontier, self.position)
        end = self.position + window
        if window >= STEPS * WHOLE and growth > 1:
            end += -end % WHOLE
        expected = self.bound and (self.slow or not self.run_start)
        if expected and self.position - self.run_start <= self.bound + self.kernel:
            size = min(size, self.run_start + self.bound)
        end = min(size, end)
        if end - start < min(unit, window // STEPS) and end < size:
            return None
        if end <= start:
            return None
        self.frontier = end
        return start, end


def kernel_readahead(soon: int) -> int:
    """How many bytes the kernel should ask for at a time ahead of a program, if `soon` come within some milliseconds: a
    request is answered when the last of them have come."""
    return max(USUAL, min(MOST, 1 << max(soon, 1).bit_length() - 1))
