"""One version lineage of one file: which of its bytes are cached, and the ranges in flight.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from vfs.base.file_version import Version
from vfs.fetch.meter import Meter
from vfs.fetch.samples import Doubts, Ends
from vfs.remote.api import RemoteFile


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
    readers: int = 0
    told: int = 0
    """The size that clients were told last, while readers had it open."""
    on_disk: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    """Blocks of which some bytes were in memory or on disk; eviction does not take them out."""
    ends: Ends = field(default_factory=Ends)
    doubts: Doubts = field(default_factory=Doubts)
    foreign: bool = False
    """Its bytes came from another host, and nobody could be asked yet whether they are this one's, too."""
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
    """Sent within the window; else it overtakes what is."""
    urged: bool = False
    """It is, or was, in the queue of jobs with waiters."""
    void: bool = False
    """What it brings is not wanted any more."""

    @property
    def size(self) -> int:
        return self.end - self.start
