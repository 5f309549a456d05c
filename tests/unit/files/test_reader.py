"""An open file: offsets to bytes, what it costs, what it asks for ahead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from tests.lab.waiting import now
from vfs.base import memory
from vfs.base.errors import StaleVersion, Unreachable
from vfs.cache import buffers
from vfs.files.reader import BEHIND, LEFT_SECONDS, Piece, open_reader

FILE = ROOT + b"/data.bin"
MIB = 1 << 20
BIG = 20 * MIB
DATA = tagged(b"old", BIG)


def test_a_read_gives_what_there_is_from_there_on() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        for start, length in (
            (0, 10),
            (MIB - 5, 10),
            (3 * MIB + 1, 2 * MIB),
            (BIG - 5, 100),
            (BIG, 10),
            (BIG + 9, 1),
        ):
            assert await read(reader, start, length) == DATA[start : start + length]
        assert reader.size == BIG

    play(story)


def test_an_empty_file_is_empty() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(FILE, b"")
        reader = await stack.open(b"data.bin")
        assert await read(reader) == b""
        stack.files.append(FILE, b"more")
        await asyncio.sleep(TTL)
        await stack.tree.refresh(reader.node)
        assert await read(reader) == b"more"

    play(story)


def test_what_is_in_memory_needs_no_waiting() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        assert reader.read_now(0, 1000) is None
        await read(reader, 0, 1000)
        assert reader.read_now(0, 1000) is not None
        assert reader.read_now(BIG, 1000) == []

    play(story)


def test_a_read_of_what_is_on_its_way_waits_for_it_without_a_task() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        first, second = await stack.open(b"data.bin"), await stack.open(b"data.bin")
        came: list[list[Piece] | None] = []
        assert not second.read_soon(0, MIB, came.append)
        fetched = asyncio.create_task(first.read(0, MIB))
        await asyncio.sleep(0.01)
        assert second.read_soon(10, 1000, came.append)
        assert came == []
        tasks = len(asyncio.all_tasks())
        assert second.read_soon(20, 1000, came.append)
        assert len(asyncio.all_tasks()) == tasks
        await fetched
        await asyncio.sleep(0.01)
        assert [bytes(block.view(a, b)) for pieces in came for block, a, b in pieces or ()] == [
            DATA[10:1010],
            DATA[20:1020],
        ]
        assert len(stack.remote.read_ranges) == len(set(stack.remote.read_ranges))

    play(story, latency=0.1)


def test_a_read_of_what_was_on_its_way_and_did_not_come_is_told_so() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        first, second = await stack.open(b"data.bin"), await stack.open(b"data.bin")
        came: list[list[Piece] | None] = []
        fetched = asyncio.create_task(first.read(0, MIB))
        await asyncio.sleep(0.01)
        stack.files.write(FILE, tagged(b"new", BIG))
        assert second.read_soon(0, MIB, came.append)
        with pytest.raises(StaleVersion):
            await fetched
        await asyncio.sleep(0.01)
        assert came == [None]

    play(story, latency=0.1)


def test_an_unchanged_file_is_reread_without_a_question_within_the_ttl_and_with_one_round_trip_after_it() -> (
    None
):
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        assert await stack.read(b"data.bin") == DATA
        await stack.node(b"data.bin")
        await asyncio.sleep(1)
        stack.remote.requests.clear()
        stack.remote.read_ranges.clear()
        began = now()
        assert await stack.read(b"data.bin") == DATA
        assert now() == began
        assert not stack.remote.requests
        await asyncio.sleep(TTL)
        began = now()
        assert await stack.read(b"data.bin") == DATA
        assert now() - began == pytest.approx(0.1)
        assert dict(stack.remote.requests) == {"lstat": 1}

    play(story, latency=0.1)


def test_attributes_come_with_the_bytes_and_not_by_questions_of_their_own() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        await stack.tree.listing(stack.tree.root)
        stack.remote.requests.clear()
        await stack.read(b"data.bin", 0, 10 * MIB)
        assert stack.remote.requests.keys() == {"open", "read"}

    play(story)


def test_who_reads_on_without_ever_asking_for_attributes_has_them_asked_for_in_the_background() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        for number in range(19, 0, -1):
            await read(reader, number * MIB, 1000)
            await asyncio.sleep(0.5)
        assert 5 <= stack.remote.requests["lstat"] <= 11
        stack.files.append(FILE, b"more")
        await asyncio.sleep(TTL)
        await read(reader, MIB // 2, 10)
        await asyncio.sleep(0.1)
        assert reader.size == BIG + 4

    play(story)


def test_who_opens_a_file_beside_one_that_is_being_read_waits_for_the_file_alone() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/run")
        stack.files.mkdir(ROOT + b"/run/1")
        stack.old(ROOT + b"/run/1/big.bin", DATA)
        stack.old(ROOT + b"/run/1/small.txt", b"small")
        await stack.tree.listing(await stack.node(b"run/1"))
        reader = await stack.open(b"run/1/big.bin")
        for number in range(19, 0, -1):
            await read(reader, number * MIB, 1000)
            await asyncio.sleep(0.5)
        began = now()
        assert await stack.read(b"run/1/small.txt") == b"small"
        assert now() - began == pytest.approx(0.2)  # LSTAT beside OPEN, and READ

    play(story, latency=0.1)


def test_a_reader_in_sequence_has_the_next_bytes_asked_for_and_one_who_jumps_does_not() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        for start in (19 * MIB, 16 * MIB, 18 * MIB):
            await read(reader, start, 100)
        await asyncio.sleep(2)
        assert stack.remote.bytes_read <= 3 * (32 << 10)
        reader = await stack.open(b"data.bin")
        for start in range(0, MIB, 128 << 10):
            await read(reader, start, 128 << 10)
        await asyncio.sleep(2)
        assert reader.read_now(2 * MIB, MIB) is not None

    play(story, latency=0.1)


def test_the_link_is_full_while_one_block_is_late() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        stack.remote.window = 2 * MIB
        reader = await stack.open(b"data.bin")
        for start in range(0, 2 * MIB, MIB):
            await read(reader, start, MIB)
        stack.remote.delay("read", before=1.0)

        async def on() -> None:
            for start in range(2 * MIB, 18 * MIB, MIB):
                await read(reader, start, MIB)

        reading = asyncio.ensure_future(on())
        await asyncio.sleep(0.8)
        came = {start for start, _ in stack.remote.read_ranges}
        late = next(start for start in range(0, 18 * MIB, MIB) if start not in came)
        assert max(came) >= late + 1.5 * stack.remote.window
        await reading

    play(story, latency=0.1)


@pytest.mark.parametrize("end", ["seek", "close"])
def test_a_program_that_reads_the_heads_of_files_has_no_more_of_the_next_ones_fetched(end: str) -> None:
    async def story(stack: MemoryStack) -> None:
        async def head(name: bytes) -> int:
            """Read 2 MiB from the beginning; how many bytes were fetched for that."""
            before = stack.remote.bytes_read
            reader = await stack.open(name)
            for start in range(0, 2 * MIB, 128 << 10):
                await read(reader, start, 128 << 10)
            if end == "seek":
                await read(reader, 19 * MIB, 100)
            reader.close()
            await asyncio.sleep(0.5)
            return stack.remote.bytes_read - before

        for name in (b"1", b"2", b"3", b"4"):
            stack.old(ROOT + b"/" + name, DATA)
        assert await head(b"1") > 4 * MIB
        for name in (b"2", b"3"):
            assert await head(name) <= 2 * MIB + (32 << 10)
        await asyncio.sleep(LEFT_SECONDS)
        assert await head(b"4") > 4 * MIB

    play(story, latency=0.05)


@pytest.mark.parametrize("end", ["seek", "close"])
def test_readahead_that_is_not_under_way_ends_with_the_run_and_with_the_file(end: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        stack.remote.window = 4 * MIB
        reader = await stack.open(b"data.bin")
        for start in range(0, 3 * MIB, 256 << 10):
            await read(reader, start, 256 << 10)
        stack.remote.read_ranges.clear()
        if end == "seek":
            await read(reader, 18 * MIB, 100)
        else:
            reader.close()
        await asyncio.sleep(5)
        assert stack.remote.bytes_read <= stack.remote.window + (32 << 10)

    play(story, latency=0.1)


def test_offline_what_is_here_is_read_and_what_is_not_fails_within_the_timeout() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        await read(reader, 0, 1000)
        await asyncio.sleep(60)
        stack.remote.go_offline()
        began = now()
        assert await read(reader, 0, 1000) == DATA[:1000]
        assert await stack.read(b"data.bin", 0, 1000) == DATA[:1000]
        assert now() == began
        with pytest.raises(Unreachable):
            await read(reader, 10 * MIB, 1000)
        assert now() - began == pytest.approx(stack.remote.timeout)
        stack.remote.go_online()
        assert await read(reader, 10 * MIB, 1000) == DATA[10 * MIB :][:1000]

    play(story)


def test_a_waiting_read_can_be_given_up_and_done_again() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        stack.remote.go_silent()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await read(reader, 0, 1000)
        stack.remote.go_on()
        assert await read(reader, 0, 1000) == DATA[:1000]
        reader.close()
        assert reader.content.readers == 0

    play(story)


@pytest.mark.parametrize("length", [128 << 10, 4 * MIB])
def test_what_is_read_comes_before_what_is_read_ahead(length: int) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(b"/r/big.bin", tagged(b"big", 12 * MIB))
        reader = await stack.open(b"big.bin")
        await read(reader, 0, length)
        await asyncio.sleep(1)
        ranges = stack.remote.read_ranges
        assert sum(size for _, size in ranges) > length  # something was read ahead
        first = ranges[: stack.remote.window // MIB]  # as many as are under way at a time
        assert set(range(0, length, MIB)) <= {start for start, _ in first}
        reader.close()

    play(story, latency=0.05)


def test_bytes_of_an_earlier_mount_are_not_given_of_what_was_replaced_longer_ago_than_the_ttl(
    tmp_path: Path,
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(b"/r/f", b"old" * 100_000)
        await stack.read(b"f")
        await stack.restart()
        node = await stack.node(b"f")
        await asyncio.sleep(20 * TTL)
        stack.old(b"/r/f", b"new")
        with pytest.raises(StaleVersion):
            await open_reader(stack.tree, stack.fetcher, node)

    play(story, latency=0.01, place=tmp_path)


def test_what_the_disk_has_is_read_ahead_from_there_and_what_it_lost_is_fetched_as_ever(
    tmp_path: Path,
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        await stack.read(b"data.bin")
        await stack.restart()
        await stack.tree.start()
        reader = await stack.open(b"data.bin")
        for start in range(0, 3 * MIB, MIB):
            await read(reader, start, MIB)
        await asyncio.sleep(1)
        assert all(reader.read_now(start, MIB) is not None for start in range(0, 8 * MIB, MIB))
        assert stack.remote.read_ranges == []
        lost = 15
        stack.cache._memory.pop((reader.content.lineage, lost), None)
        reader.content.on_disk.discard(lost)
        for start in range(3 * MIB, BIG, MIB):
            assert await read(reader, start, MIB) == DATA[start : start + MIB]
        assert {start // MIB for start, _ in stack.remote.read_ranges} == {lost}

    play(story, place=tmp_path)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_lets_go_of_the_blocks_that_it_passed_if_the_disk_has_them(tmp_path: Path, keeps: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        reader = await stack.open(b"data.bin")
        for start in range(0, 12 * MIB, MIB):
            assert await read(reader, start, MIB) == DATA[start : start + MIB]
        lineage = reader.content.lineage
        held = [index for index in range(12) if stack.cache.get(lineage, index) is not None]
        behind = range(11 - BEHIND // MIB, 12)  # and the first, where formats keep their headers
        assert held == ([0, *behind] if keeps else list(range(12)))
        assert await read(reader, 2 * MIB, MIB) == DATA[2 * MIB : 3 * MIB]
        assert len(stack.remote.read_ranges) == len(set(stack.remote.read_ranges))
        assert sum(end - start for start, end in stack.remote.read_ranges) <= BIG

    play(story, place=tmp_path if keeps else None)


def test_what_a_cached_file_grew_by_is_fetched_ahead_of_who_reads_on(tmp_path: Path) -> None:
    grown = tagged(b"old", 2 * BIG)

    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        await stack.read(b"data.bin")
        await stack.restart()
        await stack.tree.start()
        reader = await stack.open(b"data.bin")
        stack.files.append(FILE, grown[BIG:])
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        for start in range(0, BIG - 2 * MIB, MIB):
            assert await read(reader, start, MIB) == grown[start : start + MIB]
        await asyncio.sleep(1)
        assert reader.read_now(BIG, MIB) is not None
        assert reader.read_now(BIG + MIB, MIB) is not None

    play(story, place=tmp_path)


def test_a_block_that_comes_in_pieces_takes_no_memory_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffers._free.clear()
    monkeypatch.setattr(memory, "BUFFERS", 1 << 40)  # whatever other tests left
    made: list[None] = []
    fresh = buffers._fresh
    monkeypatch.setattr(buffers, "_fresh", lambda: made.append(None) or fresh())

    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, DATA)
        stack.remote.piece = MIB // 2
        assert await stack.read(b"data.bin") == DATA
        assert len(made) <= BIG // MIB // 2 + 5  # two lie in one huge page

    play(story, latency=0.01)
