"""The jobs that were not sent yet: demand first, then hints, then readahead, each by owners in turn.

Owned by the event loop's thread; there are no locks. Each call costs the same however many jobs wait, but `cancel`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable

from vfs.cache.block import BLOCK
from vfs.fetch.content import Job

Turns = OrderedDict[Hashable, deque[Job]]
"""By owner, whose turn it is first."""


class Queues:
    """`waiting` is how many bytes the queued jobs bring; a job that is queued twice counts twice."""

    def __init__(self) -> None:
        self.waiting = 0
        self._demand: deque[Job] = deque()
        self._hints: Turns = OrderedDict()
        self._ahead: Turns = OrderedDict()

    def urge(self, job: Job) -> None:
        """`job` has a waiter: it is sent in turn, before all readahead."""
        if not job.urged:
            job.urged = True
            self._add(self._demand, job)

    def ahead(self, owner: Hashable, job: Job, hint: bool) -> None:
        """Queue a job without a waiter behind its owner's others."""
        self._add((self._hints if hint else self._ahead).setdefault(owner, deque()), job)

    def next_demand(self, piece: int = BLOCK) -> Job | None:
        """The next job that has a waiter, or had one when it was queued; of a larger one, a `piece`."""
        return self._taken(self._demand, piece)

    def next_ahead(self, piece: int = BLOCK) -> Job | None:
        """The next job of the owner whose turn it is, hints first; of a larger one, a `piece`."""
        turns = self._hints or self._ahead
        if not turns:
            return None
        owner, queue = next(iter(turns.items()))
        job = self._taken(queue, piece)
        turns.move_to_end(owner)
        if not queue:
            del turns[owner]
        return job

    def cancel(self, owner: Hashable) -> Iterable[Job]:
        """Take out the jobs that `owner` has ahead, and return them."""
        jobs = [*self._hints.pop(owner, ()), *self._ahead.pop(owner, ())]
        for job in jobs:
            self._remove(job)
        return jobs

    def _add(self, queue: deque[Job], job: Job) -> None:
        queue.append(job)
        job.queued += 1
        self.waiting += job.size

    def _remove(self, job: Job) -> None:
        job.queued -= 1
        self.waiting -= job.size

    def _taken(self, queue: deque[Job], piece: int) -> Job | None:
        if not queue:
            return None
        job = queue[0]
        if job.size > piece and not job.sent and not job.done.done():
            part = job.cut(piece)  # the path carries less than when it was queued
            self.waiting -= job.queued * part.size
            return part
        queue.popleft()
        self._remove(job)
        return job
