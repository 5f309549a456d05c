"""The jobs that were not sent yet: demand first, then hints, then readahead, each by owners in turn.

Owned by the event loop's thread; there are no locks. Each call costs the same however many jobs wait, but `cancel`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable

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
            self._demand.append(job)
            self.waiting += job.size

    def ahead(self, owner: Hashable, job: Job, hint: bool) -> None:
        """Nobody waits for `job` yet; it is the last of its owner's."""
        (self._hints if hint else self._ahead).setdefault(owner, deque()).append(job)
        self.waiting += job.size

    def next_demand(self) -> Job | None:
        """The next job that has a waiter, or had one when it was queued."""
        return self._taken(self._demand)

    def next_ahead(self) -> Job | None:
        """The next job of the owner whose turn it is, hints first."""
        turns = self._hints or self._ahead
        if not turns:
            return None
        owner, queue = next(iter(turns.items()))
        job = self._taken(queue)
        turns.move_to_end(owner)
        if not queue:
            del turns[owner]
        return job

    def cancel(self, owner: Hashable) -> Iterable[Job]:
        """Take out what `owner` has ahead, and give it back."""
        jobs = [*self._hints.pop(owner, ()), *self._ahead.pop(owner, ())]
        self.waiting -= sum(job.size for job in jobs)
        return jobs

    def _taken(self, queue: deque[Job]) -> Job | None:
        if not queue:
            return None
        job = queue.popleft()
        self.waiting -= job.size
        return job
