"""The block cache as the rest sees it: hot blocks in memory, least recently used first out, over the disk.

Owned by the event loop's thread, without locks: everything here is called on it. The disk is read on a few
threads, written by the cache's writer, and both hand back with `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from cachetools import LRUCache

from vfs.base import memory
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
from vfs.cache.rows import Place

log = logging.getLogger(__name__)

READ_THREADS = 2
"""More of them pass the interpreter's lock around for longer than the disk takes."""
TOGETHER = 4
"""Blocks that a thread reads in one go, when several are wanted at once."""
LOOK_SECONDS = 0.02
"""Seconds between two looks at what waits to be written."""
STALL_SECONDS = 2.0
"""When the disk has written nothing for this long, nobody waits for it any more."""

Waiters = list[Callable[[Block | None], None]]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Memory(LRUCache[Place, Block]):
    """Bounded by the memory that the blocks take; tells what it let go."""

    def __init__(self, size: int, forgotten: Callable[[Place], None]) -> None:
        super().__init__(size, getsizeof=lambda block: block.footprint)
        self._forgotten = forgotten

    def popitem(self) -> tuple[Place, Block]:
        key, block = super().popitem()
        self._forgotten(key)
        return key, block


class BlockCache:
    """Blocks by lineage (16 bytes that name one version lineage of one file) and index (offset // BLOCK).

    `disk` may be None: then nothing outlives the process. `memory_bytes` bounds the blocks kept in memory,
    `queue_bytes` those that wait to be written: `room` waits above it, and above 1.5 times that they are not
    kept.
    """

    def __init__(
        self, disk: DiskCache | None, memory_bytes: int = memory.BLOCKS, queue_bytes: int = memory.QUEUE
    ) -> None:
        self._keeps = disk is not None
        self.disk = disk or DiskCache(Path(), 0)  # its thread does not run: records stay in memory
        self.memory_bytes = memory_bytes
        self._queue_bytes = queue_bytes
        self._memory = _Memory(memory_bytes, self._forgotten)
        self._held: dict[bytes, set[int]] = {}
        self._unpersisted: set[Place] = set()
        self._loading: dict[Place, Waiters] = {}
        """The callbacks for each block that is being read from the disk; none for a lineage that was dropped."""
        self._to_load: list[tuple[Place, Waiters]] = []
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="cache-read")
        # they begin before threads become scarce, and before a file is opened: a connection to SQLite takes milliseconds
        begun = threading.Barrier(READ_THREADS)
        for _ in range(READ_THREADS):
            self._threads.submit(self._begin_reader, begun)
        self.unkept = 0

    # --- blocks ---------------------------------------------------------------------------------------------

    def get(self, lineage: bytes, index: int) -> Block | None:
        """A block that is in memory."""
        return self._memory.get((lineage, index))

    def load(self, lineage: bytes, index: int, then: Callable[[Block | None], None]) -> None:
        """Call `then`, perhaps at once, with a block from memory, from what waits to be written, or from the disk; with None
        where there is none."""
        key = (lineage, index)
        block = self._memory.get(key)
        if block is None and (block := self.disk.pending(lineage, index)) is not None:
            self._remember(key, block)
        if block is not None:
            then(block)
            return
        waiters = self._loading.get(key)
        if waiters is None:
            self._loading[key] = waiters = []
            if not self._to_load:
                asyncio.get_running_loop().call_soon(self._load_all)
            self._to_load.append((key, waiters))
        waiters.append(then)

    def put(self, lineage: bytes, index: int, block: Block, persist: bool) -> None:
        """Keep a block in memory, and on the disk with `persist`: the ranges that are valid now. A block that
        gained ranges is put again."""
        key = (lineage, index)
        self._remember(key, block)
        if not persist:
            self._unpersisted.add(key)
            return
        self._unpersisted.discard(key)
        if not self._keeps:
            return
        if self.disk.queue_bytes > self._queue_bytes * 3 // 2:
            self.unkept += 1
            return
        self.disk.write(lineage, index, block)

    def passed(self, lineage: bytes, index: int) -> None:
        """A block will hardly be asked for again soon: it makes way in memory if the disk has it, or will have it."""
        key = (lineage, index)
        if key in self._memory and self.disk.kept(lineage, index):
            self._release(key)
            self.disk.touch(lineage, [index])

    def persist(self, lineage: bytes) -> list[int]:
        """Keep on the disk what was put without `persist` and is in memory still; the blocks."""
        held = self._held.get(lineage, ())
        indexes = [index for index in held if (lineage, index) in self._unpersisted]
        for index in indexes:
            self.put(lineage, index, self._memory[lineage, index], persist=True)
        return indexes

    async def keep(self, lineage: bytes) -> None:
        """Hand over again what is in memory and the disk has lost, as after `artisync cache clear` beside a mount."""
        known = await self.index(lineage)
        for index in list(self._held.get(lineage, ())):
            block = self._memory[lineage, index]
            if (lineage, index) not in self._unpersisted and block.valid_bytes > known.get(index, 0):
                self.put(lineage, index, block, persist=True)

    def let_go(self, lineage: bytes) -> None:
        """Forget what is in memory and was put without `persist`."""
        for index in list(self._held.get(lineage, ())):
            if (lineage, index) in self._unpersisted:
                self._release((lineage, index))

    @property
    def congested(self) -> bool:
        """Whether more waits to be written than should."""
        return self.disk.queue_bytes > self._queue_bytes

    async def room(self) -> None:
        """Wait until the queue to the disk is below its bound, or the disk has not moved for
        `STALL_SECONDS`."""
        loop = asyncio.get_running_loop()
        waiting, since = self.disk.queue_bytes, loop.time()
        while self.congested and loop.time() - since < STALL_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if self.disk.queue_bytes < waiting:
                since = loop.time()
            waiting = self.disk.queue_bytes

    async def index(self, lineage: bytes) -> dict[int, int]:
        """The blocks that the disk has, or will have: index → valid bytes. Other processes write there, too: looks again."""
        return await self._call(self.disk.index, lineage)

    def cached_bytes(self, lineage: bytes) -> int:
        """Bytes of a lineage in memory or on the disk, as far as is known now."""
        sizes = self.disk.known(lineage)
        for index in self._held.get(lineage, ()):
            block = self._memory.get((lineage, index))
            if block is not None:
                sizes[index] = max(sizes.get(index, 0), block.valid_bytes)
        return sum(sizes.values())

    def drop(self, lineage: bytes) -> None:
        """Forget a lineage, in memory and on the disk."""
        for index in list(self._held.get(lineage, ())):
            self._release((lineage, index))
        for key in [key for key in self._loading if key[0] == lineage]:
            del self._loading[key]
        self.disk.drop(lineage)

    # --- records: `disk.set_record` sets one -----------------------------------------------------------------

    async def get_record(self, key: str) -> bytes | None:
        """A small value that was kept; None when there is none, or none that is sound."""
        return await self._call(self.disk.get_record, key)

    async def records(self, prefix: str) -> list[tuple[str, bytes]]:
        """All values whose names begin with `prefix`, in order."""
        return await self._call(self.disk.records, prefix)

    # --- its life -------------------------------------------------------------------------------------------

    async def flush(self, seconds: float = 30.0) -> bool:
        """Wait until what was put is on the disk, or cannot be, `seconds` at most; whether nothing waits."""
        return not self._keeps or await asyncio.to_thread(self.disk.flush, seconds)

    async def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for `seconds` at most, and let go of the disk."""
        disk, keeps = self.disk, self._keeps
        self.disk, self._keeps = DiskCache(Path(), 0), False  # nobody finds anything there
        self._threads.shutdown(wait=False)
        if keeps:
            await asyncio.to_thread(disk.close, seconds)

    def stats(self) -> dict[str, int]:
        """Counts and bytes since the start, in plain numbers."""
        return {
            "memory_bytes": int(self._memory.currsize),
            "queue_bytes": self.disk.queue_bytes,
            "disk_bytes": self.disk.disk_bytes,
            "unkept": self.unkept,
        }

    # --- below ----------------------------------------------------------------------------------------------

    def _begin_reader(self, begun: threading.Barrier) -> None:
        self.disk.get_record("")
        begun.wait()  # else the executor would leave the work to the first one

    def _call(self, function: Callable[[*Ts], T], *values: *Ts) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._threads, function, *values)
        except RuntimeError:  # closed: there is no disk that could be waited for
            answer = loop.create_future()
            answer.set_result(function(*values))
            return answer

    def _remember(self, key: Place, block: Block) -> None:
        self._memory[key] = block
        self._held.setdefault(key[0], set()).add(key[1])

    def _release(self, key: Place) -> None:
        self._memory.pop(key, None)
        self._unhold(key)

    def _forgotten(self, key: Place) -> None:
        """A block made way for another: its place on the disk was last used now."""
        self._unhold(key)
        if self.disk.kept(*key):
            self.disk.touch(key[0], key[1:])

    def _unhold(self, key: Place) -> None:
        lineage, index = key
        self._unpersisted.discard(key)
        held = self._held.get(lineage)
        if held is not None:
            held.discard(index)
            if not held:
                del self._held[lineage]

    def _load_all(self) -> None:
        """Have the threads read what this step of the loop asked for, runs of blocks together: handing over costs more than
        reading."""
        loads, self._to_load = self._to_load, []
        run: list[tuple[Place, Waiters]] = []
        for load in loads:
            (lineage, index), _ = load
            if run and (len(run) == TOGETHER or run[-1][0] != (lineage, index - 1)):
                self._read(run)
                run = []
            run.append(load)
        self._read(run)

    def _read(self, loads: list[tuple[Place, Waiters]]) -> None:
        (lineage, _), _ = loads[0]
        read = self._call(self.disk.read, lineage, [index for (_, index), _ in loads])
        read.add_done_callback(partial(self._all_loaded, loads))

    def _all_loaded(
        self, loads: list[tuple[Place, Waiters]], read: asyncio.Future[list[Block | None]]
    ) -> None:
        blocks = [None] * len(loads) if read.cancelled() else read.result()
        for (key, waiters), block in zip(loads, blocks, strict=True):
            if self._loading.get(key) is not waiters:
                block = None
            else:
                del self._loading[key]
                block = self._merge(key, block) if block is not None else self._memory.get(key)
            for then in waiters:
                then(block)

    def _merge(self, key: Place, block: Block) -> Block:
        held = self._memory.get(key)
        if held is None:
            self._remember(key, block)
            return block
        for first, last in block.extents:  # fetched meanwhile: what the disk knows beyond that is added
            for start, end in held.missing(first, min(last, held.capacity)):
                held.write(start, block.view(start, end))
        return held
