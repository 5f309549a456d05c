"""Fetches ranges of files, in order: one job per range and version, demand before readahead.

Owned by the event loop's thread; there are no locks. A `Content` has the state of one version lineage of one file.
A job that was sent is never cancelled, because the engine may still be writing into its buffer: it ends by itself,
with bytes or with an error, within the link's timeout.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable

from vfs.base.errors import ArtisyncError, ServerFailure, StaleVersion
from vfs.base.file_version import Change, Version, classify
from vfs.base.tasks import Tasks
from vfs.cache.block import BLOCK, Block, little, split
from vfs.cache.blocks import BlockCache
from vfs.fetch.content import Content, Fetch, Job, Moved, without
from vfs.fetch.disk_loads import DiskLoads
from vfs.fetch.queues import Queues
from vfs.fetch.server_handles import ServerHandles
from vfs.remote.api import Attributes, Remote
from vfs.remote.path_model import SMALL_PIECE

log = logging.getLogger(__name__)

SINGLE_READ = 32 << 10
"""A file up to this long comes in one READ, as atomic as a local read(2). Every server allows 32 KiB (draft 02, 6.4)."""
URGENT, URGENT_PART = 128 << 10, 4
"""A read this small that a program waits for is sent at once, whatever is in flight, if it is at most that part of `spare`, 60
ms of the link. A sequential reader waits for all its reads, and has to keep to the window."""
LATER = 0.01
"""Seconds until the next look when the window is closed and nothing is in flight."""
AT_ONCE = 256
"""Jobs that are sent in one step of the loop, so that thousands of small ones do not hold up the loop."""


class Fetcher:
    """Brings ranges of files from the disk cache or the server into the memory cache."""

    def __init__(self, remote: Remote, cache: BlockCache) -> None:
        self.remote = remote
        self.cache = cache
        self.fetched = 0
        """Bytes of file data that came from the server."""
        self.used = 0
        """Bytes of file data that readers were given, from wherever they came."""
        self.readers = 0
        """Files that are open for reading."""
        self.left: tuple[int, float] | None = None
        """How far a program read the last file that it left, and when."""
        self._queues = Queues()
        self._flying = 0
        self._pumping = False
        self._closed = False
        self.handles = ServerHandles(remote)
        self.disk = DiskLoads(
            cache, lambda content, start, end: self.ahead(("rest", content.lineage), content, [(start, end)])
        )
        self._tasks = Tasks()

    # --- what readers call ------------------------------------------------------------------------------------

    def ready(self, content: Content, start: int, end: int) -> list[tuple[Block, int, int]] | None:
        """The pieces of [start, end) if all of them are in memory, else None."""
        pieces = []
        for index, a, b in split(start, end):
            block = self.cache.get(content.lineage, index)
            if block is None or not block.covers(a, b):
                return None
            pieces.append((block, a, b))
        return pieces

    async def need(self, content: Content, start: int, end: int, *, lenient: bool = False) -> None:
        """Return once [start, end) has been brought to memory. `end` must not be beyond the version's size.

        Raises `Moved` when the server's file is another version, `RemoteError` and `Unreachable` as the remote does.
        With `lenient`, bytes that came while the file went on growing are taken, unsettled as they are; a small file of
        which nothing is here comes whole with `Moved`, since nothing tells whether it has grown.
        """
        await self.disk.load(content, start, end)
        if self._closed:
            raise _closed()
        jobs: list[Job] = []
        urgent = min(URGENT, max(SINGLE_READ, self.remote.spare // URGENT_PART))
        small = end - start <= urgent
        piece = BLOCK if small else self.remote.piece
        try:
            for index, a, b in split(start, end):
                for job in self._jobs(content, index, a, b, piece, lenient):
                    job.waiters += 1
                    jobs.append(job)
                    if job.sent:
                        continue
                    if small and job.size <= urgent:
                        self._send(job)
                    else:
                        self._queues.urge(job)
            self._pump()
            for job in jobs:
                await asyncio.shield(job.done)
                for part in job.parts:
                    await asyncio.shield(part.done)
        finally:
            for job in jobs:
                job.waiters -= 1

    def come_soon(self, content: Content, start: int, end: int, then: Callable[[], None]) -> bool:
        """Call `then` in a later step of the loop, once all that memory lacks of [start, end) has come, or failed to, if it is
        on its way from the server."""
        jobs: list[Job] = []
        for index, a, b in split(start, end):
            block = self.cache.get(content.lineage, index)
            missing = [(a, b)] if block is None else block.missing(a, b)
            if missing:
                sent = [
                    job for job in content.jobs.get(index, ()) if job.sent and job.start < b and a < job.end
                ]
                if without(missing, sorted((job.start, job.end) for job in sent)):
                    return False
                jobs += sent
        left = len(jobs)

        def came(_: asyncio.Future[None]) -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for job in jobs:
            job.done.add_done_callback(came)
        return bool(jobs)

    def ahead(
        self, owner: Hashable, content: Content, ranges: Iterable[tuple[int, int]], *, hint: bool = False
    ) -> None:
        """Prefetch ranges. They are sent after all demand: hints first, owners in turn."""
        if content.stale or self._closed:
            return
        for start, end in ranges:
            for index, a, b in split(start, min(end, content.version.size)):
                block = self.cache.get(content.lineage, index)
                if block is not None and block.covers(a, b):
                    continue
                if block is None and index in content.on_disk:
                    self.disk.load_block_ahead(content, index, a, b)
                    continue
                for job in self._jobs(content, index, a, b, self.remote.piece):
                    if not job.sent and job.waiters == 0:
                        self._queues.ahead(owner, job, hint)
        self._pump_soon()

    def take_whole(self, content: Content, moved: Moved) -> None:
        """Keep the bytes that came with `Moved`, if they are of the content's present version and nothing else is cached."""
        now = Version(moved.attributes.size, moved.attributes.mtime)
        if moved.whole is not None and now == content.version and not (content.held or content.stale):
            done = asyncio.get_running_loop().create_future()
            self._keep(Job(content, 0, 0, now.size, done), None, moved.whole, content.trusted)

    def cancel(self, owner: Hashable) -> None:
        """Drop the prefetches of `owner` that were not sent yet."""
        for job in self._queues.cancel(owner):
            if not job.sent and job.waiters == 0:
                self._end(job, None)

    async def compare(self, content: Content) -> tuple[bool, Attributes | None]:
        """Whether the file at the path begins with the bytes known of `content`, and its attributes then.

        Opens the path anew, so that a file that was renamed into place is the one that is looked at. False and None
        when nothing is known: nothing was given out, and the disk has nothing.
        """
        await self.disk.note_ends(content)
        known = content.ends.samples()
        if not known:
            return False, None
        self.handles.reopen(content)
        file = await self.handles.file(content)
        buffers = [memoryview(bytearray(sample.end - sample.start)) for sample in known]
        answers = await asyncio.gather(
            *(file.read(sample.start, buffer) for sample, buffer in zip(known, buffers, strict=True))
        )
        alike = all(
            count == len(buffer) and sample.matches(buffer, sample.start)
            for sample, buffer, (count, _) in zip(known, buffers, answers, strict=True)
        )
        return alike, answers[-1][1]

    def persist(self, content: Content) -> None:
        """Write the blocks in memory to disk, once they are known to be this version's."""
        if content.trusted and not content.spared:
            content.on_disk.update(self.cache.persist(content.lineage))

    def spare(self, content: Content) -> None:
        """Write no further block of a file to disk, if one reader has it open, until another one opens it."""
        content.spared = content.readers == 1

    def end_sparing(self, content: Content, *, read: bool) -> None:
        """Write its blocks in memory to disk if another reader has `read` it, else let go of them. Later reads are cached."""
        if content.spared:
            content.spared = False
            if read:
                self.persist(content)
            else:
                self.cache.let_go(content.lineage)

    async def open(self, content: Content) -> tuple[Attributes, float]:
        """Open the file on the server if it is not open; the attributes seen then, and when they were asked for."""
        task = self.handles.opening(content)
        at = content.opened
        return (await asyncio.shield(task)).attributes, at

    async def read_past_cache(
        self, content: Content, offset: int, into: memoryview
    ) -> tuple[int, Attributes]:
        """Read from the server, even what is cached; the bytes are not kept."""
        return await (await self.handles.file(content)).read(offset, into)

    def void(self, content: Content) -> None:
        """Discard the results of all jobs in flight: they belong to an older version that was not compared."""
        for job in [job for jobs in content.jobs.values() for job in jobs]:
            if job.sent:
                job.void = True
                job.forget()
            elif not job.waiters:
                self._end(job, None)

    def under_way(self) -> list[Fetch]:
        """The files that are being fetched."""
        now = asyncio.get_running_loop().time()
        fetches = []
        for content in self.handles.contents():
            waiting = sum(job.size for jobs in content.jobs.values() for job in jobs)
            if waiting:
                done = min(content.version.size, self.cache.cached_bytes(content.lineage))
                fetches.append(
                    Fetch(content.path, content.version.size, done, waiting, content.meter.rate(now))
                )
        return fetches

    async def aclose(self) -> None:
        """Close all server handles and end background work."""
        self._closed = True
        while (job := self._queues.next_demand() or self._queues.next_ahead()) is not None:
            if not job.sent:
                self._end(job, _closed())
        await self._tasks.aclose()
        await self.handles.aclose()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def _jobs(
        self, content: Content, index: int, a: int, b: int, piece: int, lenient: bool = False
    ) -> list[Job]:
        """The jobs, old and new, that bring the missing parts of [a, b) of a block; new ones are of `piece` at most."""
        block = self.cache.get(content.lineage, index)
        missing = [(a, b)] if block is None else block.missing(a, b)
        return content.jobs_for(index, missing, piece, lenient)

    def _pump_soon(self, seconds: float = 0.0) -> None:
        """Send prefetches after the present step of the loop: the same reader's demand goes first."""
        if not self._pumping:
            self._pumping = True
            loop = asyncio.get_running_loop()
            if seconds:
                loop.call_later(seconds, self._pump)
            else:
                loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send the jobs that fit into the window, at most `AT_ONCE` in one step. It costs as much as what it sends."""
        self._pumping = False
        allowed, piece = self.remote.allowed, self.remote.piece
        room = piece if piece <= SMALL_PIECE else 1
        for _ in range(AT_ONCE):
            if self._flying >= allowed or (self._flying and self._flying + room > allowed):
                if not self._flying and self._queues.waiting:
                    self._pump_soon(LATER)
                break
            job = self._queues.next_demand(piece)
            ahead = job is None and not self.cache.congested
            if ahead:
                job = self._queues.next_ahead(piece)
            if job is None:
                break
            if not job.sent and not job.done.done():
                if ahead or job.waiters:
                    job.bulk = True
                    self._send(job)
                else:
                    self._end(job, None)
        else:
            self._pump_soon()
        waiting = self._queues.waiting
        if waiting or self._flying:
            self.remote.backlog(waiting)

    def _send(self, job: Job) -> None:
        job.sent = True
        self._flying += job.size
        self._tasks.spawn(self._run(job))

    def _end(self, job: Job, error: ArtisyncError | None) -> None:
        job.forget()
        if not job.done.done():
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)
                job.done.exception()  # marked as seen: readahead has no waiter

    async def _run(self, job: Job) -> None:
        error: ArtisyncError | None = None
        try:
            if self.cache.congested:
                await self.cache.room()
            await self._fetch(job)
        except ArtisyncError as err:
            error = err
        except asyncio.CancelledError:
            error = _closed()
            raise
        except Exception:
            log.exception("a fetch failed")
            error = ServerFailure("a fetch failed")
        finally:
            self._flying -= job.size
            self._end(job, error)
            self._pump()

    async def _fetch(self, job: Job) -> None:
        content = job.content
        if job.lenient and not content.held and content.version.size <= SINGLE_READ:
            await self._fetch_whole(content)
        start = job.index * BLOCK
        capacity = min(BLOCK, content.version.size - start)
        fresh = None if little(job.size, capacity) else Block(capacity)
        view = fresh.view(job.start, job.end) if fresh is not None else memoryview(bytearray(job.size))
        file = await self.handles.file(content)
        version, trusted, at = content.version, content.trusted, asyncio.get_running_loop().time()
        reckon = fresh.reckon if fresh is not None and job.size == capacity and not content.spared else None
        count, attributes = await file.read(start + job.start, view, bulk=job.bulk, came=reckon)
        now = Version(attributes.size, attributes.mtime)
        if job.void:
            raise Moved(attributes, at)
        if now not in (version, content.version) and not (job.lenient and await self._grew(content, now)):
            raise Moved(attributes, at)
        if content.stale:
            raise StaleVersion(f"{content.path!r} was replaced")
        if count < job.size:
            raise ServerFailure(f"the server sent {count} of {job.size} bytes of {content.path!r}")
        self.fetched += count
        content.meter.add(count, asyncio.get_running_loop().time())
        steady = content.append_only or now == version == content.version
        self._keep(job, fresh, view, trusted and content.trusted and steady)
        del view  # before `fresh`, whose memory is used again only if there is no view of it

    async def _fetch_whole(self, content: Content) -> None:
        """Read a small file with one READ, whatever size it has by now. Raises Moved."""
        file, at = await self.handles.file(content), asyncio.get_running_loop().time()
        view = memoryview(bytearray(SINGLE_READ))
        count, attributes = await file.read(0, view, once=True)
        raise Moved(attributes, at, view[:count] if count == attributes.size else None)

    async def _grew(self, content: Content, now: Version) -> bool:
        """Whether bytes that came while the file went on changing, to `now`, may be taken as growing bytes."""
        if classify(content.version, now) is not Change.GROWN:
            return False
        if not content.held:
            return content.append_only
        alike, attributes = await self.compare(content)
        if not alike or attributes is None:
            return False
        return classify(content.version, Version(attributes.size, attributes.mtime)) is not Change.REPLACED

    def _keep(self, job: Job, fresh: Block | None, view: memoryview, trusted: bool) -> None:
        content, start = job.content, job.index * BLOCK
        persist = trusted and (not content.spared or job.index in content.on_disk)
        block = self.cache.get(content.lineage, job.index)
        capacity = min(BLOCK, content.version.size - start)
        if block is None and fresh is not None:
            block = fresh
            block.mark(job.start, job.end)
        else:
            if block is None:
                block = Block(capacity, sparse=little(job.size, capacity))
            elif block.capacity < capacity:
                block = block.grown(capacity)
            block.write(job.start, view)
        self.cache.put(content.lineage, job.index, block, persist=persist)
        content.held.add(job.index)
        content.ends.note(block, start)
        if persist:
            content.on_disk.add(job.index)
        elif not trusted and not content.append_only:
            content.doubts.add(start + job.start, view)


def _closed() -> ServerFailure:
    return ServerFailure("closed while reading")
