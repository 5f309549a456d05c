"""The jobs that were not sent yet: demand first, then what was asked for ahead, owners in turn.

Owned by the event loop's thread; there are no locks. Each call costs the same however many jobs wait, but `cancel`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable

from vfs.fetch.content import Job


class Queues:
    """`waiting` is how many bytes the queued jobs bring; a job that is queued twice counts twice."""

    def __init__(self) -> None:
        self.waiting = 0
        self._demand: deque[Job] = deque()
        self._ahead: OrderedDict[Hashable, deque[Job]] = OrderedDict()

    def urge(self, job: Job) -> None:
        """Somebody waits for `job`: it goes out in turn, before all that is ahead."""
        if not job.urged:
            job.urged = True
            self._demand.append(job)
            self.waiting += job.size

    def ahead(self, owner: Hashable, job: Job) -> None:
        """Nobody waits for `job` yet; it is the last of its owner's."""
        queue = self._ahead.get(owner)
        if queue is None:
            queue = self._ahead[owner] = deque()
        queue.append(job)
        self.waiting += job.size

    def next_demand(self) -> Job | None:
        """The next job that somebody waits for, or waited for when it was queued."""
        return self._taken(self._demand)

    def next_ahead(self) -> Job | None:
        """The next job of the owner whose turn it is."""
        if not self._ahead:
            return None
        owner, queue = next(iter(self._ahead.items()))
        job = self._taken(queue)
        self._ahead.move_to_end(owner)
        if not queue:
            del self._ahead[owner]
        return job

    def cancel(self, owner: Hashable) -> Iterable[Job]:
        """Take out what `owner` has ahead, and give it back."""
        jobs = self._ahead.pop(owner, ())
        self.waiting -= sum(job.size for job in jobs)
        return jobs

    def _taken(self, queue: deque[Job]) -> Job | None:
        if not queue:
            return None
        job = queue.popleft()
        self.waiting -= job.size
        return job
