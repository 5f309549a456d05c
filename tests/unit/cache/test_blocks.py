"""The block cache on an event loop: memory, write-behind, sharing, and its knowledge of the disk."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from vfs.cache.block import BLOCK, Block
from vfs.cache.blocks import TOGETHER, BlockCache
from vfs.cache.data import DataFiles, Ranges
from vfs.cache.disk import DiskCache
from vfs.cache.records import lineage_pin

LINEAGE = b"L" * 16
OTHER = b"o" * 16
LIMIT = 1 << 30


def whole(fill: bytes = b"x", size: int = 1000) -> Block:
    block = Block(size)
    block.write(0, fill * size)
    return block


def run(directory: Path, story: Callable[[BlockCache], Awaitable[None]], **sizes: int) -> None:
    async def main() -> None:
        cache = BlockCache(DiskCache.open(directory, LIMIT), **sizes)
        try:
            await story(cache)
        finally:
            await cache.close()

    asyncio.run(main())


async def load(cache: BlockCache, lineage: bytes, index: int) -> Block | None:
    loaded: asyncio.Future[Block | None] = asyncio.get_running_loop().create_future()
    cache.load(lineage, index, lambda block: None if loaded.done() else loaded.set_result(block))
    return await loaded


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk whose writes wait until the event is set."""
    event, write = threading.Event(), DataFiles.write

    def slow(self: DataFiles, lineage: bytes, blocks: Iterable[Ranges]) -> None:
        assert event.wait(20)
        write(self, lineage, blocks)

    monkeypatch.setattr(DataFiles, "write", slow)
    yield event
    event.set()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(index, valid bytes) of each block that is written."""
    seen: list[tuple[int, int]] = []
    write = DataFiles.write

    def spy(self: DataFiles, lineage: bytes, blocks: Iterable[Ranges]) -> None:
        blocks = list(blocks)
        seen.extend((index, sum(last - first for first, last in extents)) for index, _, extents in blocks)
        write(self, lineage, blocks)

    monkeypatch.setattr(DataFiles, "write", spy)
    return seen


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The index of each block that is looked for on the disk."""
    seen: list[int] = []
    read = DiskCache.read

    def spy(self: DiskCache, lineage: bytes, indexes: Sequence[int]) -> list[Block | None]:
        seen.extend(indexes)
        return read(self, lineage, indexes)

    monkeypatch.setattr(DiskCache, "read", spy)
    return seen


def test_a_block_that_was_put_is_in_memory(tmp_path: Path) -> None:
    async def story(cache: BlockCache) -> None:
        block = whole()
        cache.put(LINEAGE, 3, block, persist=False)
        assert cache.get(LINEAGE, 3) is block
        assert cache.get(LINEAGE, 4) is None
        assert cache.get(OTHER, 3) is None
        assert await load(cache, LINEAGE, 3) is block

    run(tmp_path, story)


def test_a_persisted_block_is_there_in_the_next_session_and_another_is_not(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(b"k"), persist=True)
        cache.put(LINEAGE, 1, whole(b"u"), persist=False)

    async def second(cache: BlockCache) -> None:
        assert cache.get(LINEAGE, 0) is None
        block = await load(cache, LINEAGE, 0)
        assert block is not None
        assert bytes(block.view(0, 1000)) == b"k" * 1000
        assert cache.get(LINEAGE, 0) is block
        assert await load(cache, LINEAGE, 1) is None

    run(tmp_path, first)
    run(tmp_path, second)


def test_blocks_are_read_where_no_further_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(cache: BlockCache) -> None:
        for index in range(8):
            cache.put(LINEAGE, index, whole(b"%d" % index), persist=True)

    async def second(cache: BlockCache) -> None:
        def scarce(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", scarce)
            blocks = await asyncio.gather(*(load(cache, LINEAGE, index) for index in range(8)))
        assert [bytes(block.view(0, 2)) for block in blocks if block is not None] == [
            b"%d" % index * 2 for index in range(8)
        ]

    run(tmp_path, first)
    run(tmp_path, second)


def test_memory_keeps_what_was_used_last_and_stays_within_its_bound(tmp_path: Path) -> None:
    async def story(cache: BlockCache) -> None:
        for index in range(4):
            cache.put(LINEAGE, index, whole(size=BLOCK), persist=False)
            cache.get(LINEAGE, 0)
        assert [index for index in range(4) if cache.get(LINEAGE, index)] == [0, 3]
        assert cache.stats()["memory_bytes"] <= 2 * BLOCK
        assert cache.cached_bytes(LINEAGE) == 2 * BLOCK

    run(tmp_path, story, memory_bytes=2 * BLOCK)


def test_a_block_that_waits_to_be_written_is_found_without_the_disk(
    tmp_path: Path, gate: threading.Event, reads: list[int]
) -> None:
    async def story(cache: BlockCache) -> None:
        blocks = [whole(size=BLOCK) for _ in range(3)]
        for index, block in enumerate(blocks):
            cache.put(LINEAGE, index, block, persist=True)
        assert cache.get(LINEAGE, 0) is None
        assert await load(cache, LINEAGE, 0) is blocks[0]
        assert reads == []
        gate.set()

    run(tmp_path, story, memory_bytes=BLOCK)


def test_a_block_put_again_while_it_waits_is_written_once_with_its_newest_ranges(
    tmp_path: Path, written: list[tuple[int, int]]
) -> None:
    async def story(cache: BlockCache) -> None:
        block = Block(1000)
        for start in (0, 200, 500):
            block.write(start, b"p" * 100)
            cache.put(LINEAGE, 0, block, persist=True)
        assert await cache.flush()
        assert written == [(0, 300)]

    run(tmp_path, story)


def test_a_block_that_gained_ranges_replaces_its_row_when_it_is_put_again(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        block = Block(1000)
        block.write(100, b"a" * 100)
        cache.put(LINEAGE, 0, block, persist=True)
        assert await cache.flush()
        block.write(300, b"b" * 100)
        cache.put(LINEAGE, 0, block, persist=True)
        assert await cache.flush()

    async def second(cache: BlockCache) -> None:
        block = await load(cache, LINEAGE, 0)
        assert block is not None
        assert block.extents == [(100, 200), (300, 400)]
        assert bytes(block.view(100, 200)) == b"a" * 100
        assert bytes(block.view(300, 400)) == b"b" * 100

    run(tmp_path, first)
    run(tmp_path, second)
    assert len(list(tmp_path.glob("blocks/*/*/*"))) == 1


def test_loads_of_one_block_at_once_read_the_disk_once(tmp_path: Path, reads: list[int]) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        blocks = await asyncio.gather(*(load(cache, LINEAGE, 0) for _ in range(20)))
        assert blocks[0] is not None
        assert all(block is blocks[0] for block in blocks)
        assert reads == [0]

    run(tmp_path, first)
    run(tmp_path, second)


def test_blocks_that_are_wanted_together_come_in_few_hand_overs(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[int] = []

    async def first(cache: BlockCache) -> None:
        for index in range(9):
            cache.put(LINEAGE, index, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        await cache.index(LINEAGE)
        read = cache._read
        monkeypatch.setattr(cache, "_read", lambda loads: handed.append(len(loads)) or read(loads))
        wanted = [*range(5), 7, 8, 6]
        blocks = await asyncio.gather(*(load(cache, LINEAGE, index) for index in wanted))
        assert all(block is not None and block.whole for block in blocks)
        assert sorted(reads) == sorted(wanted)
        assert handed == [TOGETHER, 1, 2, 1]

    run(tmp_path, first)
    run(tmp_path, second)


def test_who_waits_for_the_disk_when_the_cache_is_closed_gets_nothing(tmp_path: Path) -> None:
    got: list[Block | None] = []

    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        await cache.index(LINEAGE)
        cache.load(LINEAGE, 0, got.append)
        await cache.close()
        await asyncio.sleep(0)
        assert got == [None]

    run(tmp_path, first)
    run(tmp_path, second)


def test_one_who_gives_up_waiting_does_not_spoil_the_load_for_others(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        await cache.index(LINEAGE)
        one = asyncio.ensure_future(load(cache, LINEAGE, 0))
        two = asyncio.ensure_future(load(cache, LINEAGE, 0))
        await asyncio.sleep(0)
        one.cancel()
        assert await two is not None

    run(tmp_path, first)
    run(tmp_path, second)


def test_what_a_load_brings_is_added_to_what_was_fetched_meanwhile(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        block = Block(1000)
        block.write(0, b"d" * 600)
        cache.put(LINEAGE, 0, block, persist=True)

    async def second(cache: BlockCache) -> None:
        await cache.index(LINEAGE)
        loading = asyncio.ensure_future(load(cache, LINEAGE, 0))
        await asyncio.sleep(0)
        fetched = Block(1000)
        fetched.write(500, b"d" * 500)
        cache.put(LINEAGE, 0, fetched, persist=False)
        assert await loading is fetched
        assert fetched.whole
        assert bytes(fetched.view(0, 1000)) == b"d" * 1000

    run(tmp_path, first)
    run(tmp_path, second)


def test_who_wants_room_waits_until_the_queue_is_below_its_bound(
    tmp_path: Path, gate: threading.Event
) -> None:
    async def story(cache: BlockCache) -> None:
        for index in range(3):
            cache.put(LINEAGE, index, whole(size=BLOCK), persist=True)
        assert cache.congested
        waiter = asyncio.ensure_future(cache.room())
        await asyncio.sleep(0.05)
        assert not waiter.done()
        gate.set()
        await asyncio.wait_for(waiter, 5)
        assert not cache.congested

    run(tmp_path, story, queue_bytes=2 * BLOCK)


def test_a_disk_that_does_not_move_holds_nobody_up_and_takes_no_more_memory(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.cache.blocks.STALL_SECONDS", 0.05)

    async def story(cache: BlockCache) -> None:
        for index in range(10):
            await asyncio.wait_for(cache.room(), 5)
            cache.put(LINEAGE, index, whole(size=BLOCK), persist=True)
        assert cache.stats()["queue_bytes"] <= 5 * BLOCK
        assert cache.stats()["unkept"] > 0
        assert cache.get(LINEAGE, 9) is not None
        gate.set()

    run(tmp_path, story, queue_bytes=2 * BLOCK)


def test_a_dropped_lineage_is_gone_from_memory_the_queue_and_the_disk(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)
        cache.put(OTHER, 0, whole(b"o"), persist=True)
        assert await cache.flush()
        cache.put(LINEAGE, 1, whole(), persist=True)
        cache.drop(LINEAGE)
        assert cache.get(LINEAGE, 0) is None
        assert await load(cache, LINEAGE, 0) is None
        assert await load(cache, LINEAGE, 1) is None
        assert cache.cached_bytes(LINEAGE) == 0

    async def second(cache: BlockCache) -> None:
        assert await cache.index(LINEAGE) == {}
        assert await cache.index(OTHER) == {0: 1000}

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_block_on_its_way_from_the_disk_is_not_given_out_once_its_lineage_is_dropped(
    tmp_path: Path,
) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        await cache.index(LINEAGE)
        loading = asyncio.ensure_future(load(cache, LINEAGE, 0))
        await asyncio.sleep(0)
        cache.drop(LINEAGE)
        assert await loading is None
        assert cache.get(LINEAGE, 0) is None

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_lineage_can_be_put_again_after_it_was_dropped(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(b"1"), persist=True)
        cache.put(LINEAGE, 1, whole(b"1"), persist=True)
        assert await cache.flush()
        cache.drop(LINEAGE)
        cache.put(LINEAGE, 1, whole(b"2"), persist=True)

    async def second(cache: BlockCache) -> None:
        assert await cache.index(LINEAGE) == {1: 1000}
        block = await load(cache, LINEAGE, 1)
        assert block is not None
        assert bytes(block.view(0, 4)) == b"2222"

    run(tmp_path, first)
    run(tmp_path, second)


def test_the_index_counts_what_is_on_the_disk_and_what_waits(tmp_path: Path, gate: threading.Event) -> None:
    async def story(cache: BlockCache) -> None:
        gate.set()
        cache.put(LINEAGE, 0, whole(size=500), persist=True)
        assert await cache.flush()
        gate.clear()
        cache.put(LINEAGE, 7, whole(size=300), persist=True)
        assert await cache.index(LINEAGE) == {0: 500, 7: 300}
        cache.put(LINEAGE, 9, whole(size=50), persist=False)
        assert cache.cached_bytes(LINEAGE) == 850
        gate.set()

    run(tmp_path, story)


def test_what_another_process_cached_is_seen_when_the_index_is_asked_again(tmp_path: Path) -> None:
    async def story(cache: BlockCache) -> None:
        assert await cache.index(LINEAGE) == {}
        other = DiskCache.open(tmp_path, LIMIT)
        other.write(LINEAGE, 2, whole())
        other.set_record(lineage_pin(LINEAGE), b"")
        other.close()
        assert await cache.index(LINEAGE) == {2: 1000}
        assert await load(cache, LINEAGE, 2) is not None
        assert await cache.get_record(lineage_pin(LINEAGE)) is not None

    run(tmp_path, story)


def test_a_block_whose_file_is_damaged_is_a_miss_and_is_forgotten(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.put(LINEAGE, 0, whole(), persist=True)

    async def second(cache: BlockCache) -> None:
        assert await load(cache, LINEAGE, 0) is None
        assert not cache.disk.kept(LINEAGE, 0)

    run(tmp_path, first)
    (path,) = tmp_path.glob("blocks/*/*/*")
    with path.open("r+b") as file:
        file.seek(17)
        file.write(b"!")
    run(tmp_path, second)


def test_records_are_read_back_at_once_and_in_the_next_session(tmp_path: Path) -> None:
    async def first(cache: BlockCache) -> None:
        cache.disk.set_record("f:one", b"1")
        assert await cache.get_record("f:one") == b"1"
        cache.disk.set_record("f:two", b"2")
        cache.disk.set_record("f:three", b"3")
        cache.disk.set_record("f:three", None)
        assert await cache.get_record("f:three") is None

    async def second(cache: BlockCache) -> None:
        assert await cache.records("f:") == [("f:one", b"1"), ("f:two", b"2")]

    run(tmp_path, first)
    run(tmp_path, second)


def test_without_a_disk_everything_works_from_memory() -> None:
    async def main() -> None:
        cache = BlockCache(None)
        cache.put(LINEAGE, 0, whole(), persist=True)
        assert cache.get(LINEAGE, 0) is not None
        assert await load(cache, LINEAGE, 1) is None
        assert await cache.index(LINEAGE) == {}
        cache.disk.set_record("d:x", b"listing")
        assert await cache.get_record("d:x") == b"listing"
        cache.drop(LINEAGE)
        assert await load(cache, LINEAGE, 0) is None
        await cache.room()
        assert await cache.flush()
        await cache.close()

    asyncio.run(main())


def test_after_closing_nothing_is_lost_and_nothing_hangs(tmp_path: Path) -> None:
    async def main() -> None:
        cache = BlockCache(DiskCache.open(tmp_path, LIMIT))
        for index in range(50):
            cache.put(LINEAGE, index, whole(os.urandom(1)), persist=True)
        await cache.close()
        assert await load(cache, OTHER, 0) is None
        cache.put(OTHER, 0, whole(), persist=True)
        await cache.room()

    asyncio.run(main())
    disk = DiskCache.open(tmp_path, LIMIT)
    assert len(disk.index(LINEAGE)) == 50
    disk.close()
