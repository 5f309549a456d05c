"""A reader behind a long link, for tests of hints: pages, a kernel that keeps them, and one unit of time a
round trip.

Whatever is asked for at one moment arrives together, one round trip later; a read waits for the pages it
lacks.
"""

from __future__ import annotations

import io
from typing import Any

from vfs.formats import Range, advisor_for
from vfs.formats.api import PAGE


class LongLink:
    """Serves `data` to reads as a mount with an Advisor would. `now` counts the round trips that reads waited
    for.
    """

    def __init__(self, name: bytes, data: bytes, *, hints: bool = True) -> None:
        self.size = len(data)
        self.data = data
        self.now = 0
        self.advisor = advisor_for(name, self.size) if hints else None
        self.arrival: dict[int, int] = {}
        self.kernel: set[int] = set()
        self.wanted: list[Range] = []

    @property
    def fetched(self) -> int:
        """Bytes that crossed the link."""
        return len(self.arrival) * PAGE

    def get(self, offset: int, length: int) -> bytes | None:
        """As an advisor may ask: the bytes if all of them have arrived."""
        end = min(offset + length, self.size)
        if all(self.arrival.get(page, self.now + 1) <= self.now for page in _pages(offset, end)):
            return self.data[offset:end]
        return None

    def read(self, offset: int, length: int) -> bytes:
        """A program reads; what the kernel has does not reach the mount."""
        end = min(offset + length, self.size)
        missing = [page for page in _pages(offset, end) if page not in self.kernel]
        if missing:
            self.kernel.update(missing)
            self._touch([Range(missing[0] * PAGE, min(self.size, (missing[-1] + 1) * PAGE))], missing)
        return self.data[offset:end]

    def fault(self, offset: int, window: int = 256 << 10) -> None:
        """A page fault in a mapping: the kernel asks for a window around it, less the pages that it has."""
        if offset // PAGE in self.kernel:
            return
        start = max(0, offset // PAGE * PAGE - window // 2)
        runs: list[list[int]] = [[]]
        for page in _pages(start, min(self.size, start + window)):
            if page in self.kernel:
                runs.append([])
            else:
                runs[-1].append(page)
        asked = [Range(run[0] * PAGE, min(self.size, (run[-1] + 1) * PAGE)) for run in runs if run]
        self.kernel.update(*runs)
        self._touch(asked, [offset // PAGE])

    def _touch(self, asked: list[Range], awaited: list[int]) -> None:
        """The kernel asks for ranges at once, and its caller waits for some of their pages."""
        for one in asked:
            self._advise(one)
            for page in _pages(one.start, one.end):
                self.arrival.setdefault(page, self.now + 1)
        self.now = max(self.now, *(self.arrival[page] for page in awaited))
        for one in asked:
            self._advise(one)

    def _advise(self, touched: Range) -> None:
        if self.advisor is None or self.advisor.finished:
            return
        again = True
        while again:
            for wanted in self.advisor.advise(self, touched):
                assert 0 <= wanted.start < wanted.end <= self.size
                self.wanted.append(wanted)
                for page in _pages(wanted.start, wanted.end):
                    self.arrival.setdefault(page, self.now + 1)
            again = self.advisor.paused


class LinkedFile(io.RawIOBase):
    """`LongLink` as a file that Python's own buffering can be put upon."""

    def __init__(self, link: LongLink) -> None:
        self.link = link
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.link.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, into: Any) -> int:
        data = self.link.read(self.at, len(into))
        into[: len(data)] = data
        self.at += len(data)
        return len(data)


def buffered(link: LongLink) -> io.BufferedReader:
    """As `open(path, "rb")` gives it on a file system of 4 KiB blocks."""
    return io.BufferedReader(LinkedFile(link), 4096)


def _pages(start: int, end: int) -> range:
    return range(start // PAGE, -(-end // PAGE))
