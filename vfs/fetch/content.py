"""One version lineage of one file: which of its bytes are cached, and the ranges in flight.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from vfs.base.errors import ArtisyncError
from vfs.base.file_version import Version
from vfs.cache.block import Extent
from vfs.fetch.meter import Meter
from vfs.fetch.samples import Doubts, Ends
from vfs.remote.api import Attributes, RemoteFile


@dataclass(slots=True, eq=False)
class Content:
    """The bytes of one version lineage of one file, as far as they are here.

    `version` is what readers are given; only the tree moves it (growth) or sets `stale` (replacement). `trusted`
    says that bytes fetched now may be kept as this version's for good. `doubts` are the ranges that were given out
    before that could be said.
    """

    path: bytes
    lineage: bytes
    version: Version
    append_only: bool = False
    trusted: bool = False
    stale: bool = False
    spared: bool = False
    """No further block of it is written to disk: its only reader puts it elsewhere. Ends when another reader opens it."""
    readers: int = 0
    told: int = 0
    """The size that clients were told last, while readers had it open."""
    on_disk: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    """Blocks of which some bytes were in memory or on disk; eviction does not take them out."""
    ends: Ends = field(default_factory=Ends)
    doubts: Doubts = field(default_factory=Doubts)
    foreign: bool = False
    """Its bytes came from another host, and were not compared with the present one's yet."""
    jobs: dict[int, list[Job]] = field(default_factory=dict)
    file: asyncio.Task[RemoteFile] | None = None
    opened: float = 0.0
    """When `file` was asked for, in the loop's time."""
    judged: tuple[Version, bool | None] | None = None
    """The version that was looked at for being whole, and whether it is."""
    meter: Meter = field(default_factory=Meter)
    """Bytes that came from the server."""

    def doubt_growth(self) -> None:
        """Have the samples that told growth from replacement compared once more when the file is settled."""
        if not self.trusted:
            self.doubts.add_samples(self.ends.samples())

    def jobs_for(self, index: int, missing: list[Extent], piece: int, lenient: bool) -> list[Job]:
        """The jobs, old and new, that bring the missing parts of a block; new ones are of `piece` bytes at most.

        `missing` is sorted. `lenient` as for `Job`: an old job that is not will not do for one that is.
        """
        if not missing:
            return []
        start, end = missing[0][0], missing[-1][1]
        result = [
            job
            for job in self.jobs.get(index, ())
            if job.start < end and start < job.end and job.lenient >= lenient
        ]
        loop = asyncio.get_running_loop()
        for gap, gap_end in without(missing, sorted((job.start, job.end) for job in result)):
            for a, b in _cut(gap, gap_end, piece):
                job = Job(self, index, a, b, loop.create_future(), lenient)
                self.jobs.setdefault(index, []).append(job)
                result.append(job)
        return result


@dataclass(slots=True, eq=False)
class Job:
    """One range of one block, [start, end) within the block, to be fetched."""

    content: Content
    index: int
    start: int
    end: int
    done: asyncio.Future[None]
    lenient: bool = False
    waiters: int = 0
    sent: bool = False
    bulk: bool = False
    """It was sent within the window. Other jobs overtake those that were."""
    urged: bool = False
    """It is, or was, in the queue of jobs with waiters."""
    void: bool = False
    """Its bytes are to be discarded."""
    queued: int = 0
    """The number of queues that it is in."""
    parts: list[Job] = field(default_factory=list)
    """The jobs that were cut off before it was sent. Its waiters wait for these, too."""

    @property
    def size(self) -> int:
        return self.end - self.start

    def cut(self, piece: int) -> Job:
        """Its beginning, up to a multiple of `piece`, as a job of its own."""
        start, self.start = next(_cut(self.start, self.end, piece))
        loop = self.done.get_loop()
        part = Job(
            self.content, self.index, start, self.start, loop.create_future(), self.lenient, self.waiters
        )
        self.parts.append(part)
        self.content.jobs.setdefault(self.index, []).append(part)
        return part

    def forget(self) -> None:
        """No other reader shall wait for it. Idempotent."""
        jobs = self.content.jobs.get(self.index, [])
        if self in jobs:
            jobs.remove(self)
            if not jobs:
                del self.content.jobs[self.index]


class Moved(ArtisyncError):
    """The file on the server is not the version that was asked for: `attributes`, asked for at `at` (loop's time).

    `whole`: all its bytes, if one READ brought them.
    """

    def __init__(self, attributes: Attributes, at: float, whole: memoryview | None = None) -> None:
        super().__init__("the file changed while it was read")
        self.attributes = attributes
        self.at = at
        self.whole = whole


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file that is being fetched. Sizes in bytes."""

    path: bytes
    size: int
    done: int
    """In the cache already."""
    waiting: int
    """Asked for and not there yet."""
    rate: float
    """Bytes per second, lately."""


def _cut(start: int, end: int, piece: int) -> Iterator[tuple[int, int]]:
    """[start, end) in ranges that end at multiples of `piece`."""
    while start < end:
        stop = min(end, start - start % piece + piece)
        yield start, stop
        start = stop


def without(gaps: list[Extent], taken: list[Extent]) -> list[Extent]:
    """The parts of `gaps` that `taken` leaves; both are sorted, and no gap touches another."""
    left = []
    i = 0
    for start, end in gaps:
        while i < len(taken) and taken[i][0] < end:
            first, last = taken[i]
            if start < first:
                left.append((start, first))
            start = max(start, last)
            if last > end:
                break  # it may reach into the next gap
            i += 1
        if start < end:
            left.append((start, end))
    return left
