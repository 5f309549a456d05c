"""What is evicted from memory, or from the disk, changes no answer about versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.blocks import prune
from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from vfs.base.errors import StaleVersion
from vfs.cache.block import BLOCK, Block
from vfs.fetch.samples import COMPARE, Ends

FILE = ROOT + b"/ck.pt"
EVENTS = ROOT + b"/events.out.tfevents.1.host.1.0"
MEMORY = 4 << 20
PATHS = pytest.mark.parametrize("path", [FILE, EVENTS], ids=["checkpoint", "events"])
SIZES = pytest.mark.parametrize("size", [1000, 2_500_000], ids=["small", "large"])


@PATHS
@SIZES
@pytest.mark.parametrize("settled", [True, False], ids=["settled", "just written"])
def test_a_file_that_only_grew_is_not_stale_though_its_bytes_were_evicted(
    path: bytes, size: int, settled: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        if settled:
            stack.old(path, tagged(b"old", size))
        else:
            stack.files.write(path, tagged(b"old", size))
        reader = await stack.open(path[3:])
        want = await read(reader)
        for number in range(3):
            stack.evict()
            assert reader.read_now(0, 8) is None
            more = tagged(b"%d" % number, 3000)
            stack.files.append(path, more)
            await asyncio.sleep(TTL)
            await stack.tree.refresh(reader.node)
            assert await read(reader, len(want)) == more
            want += more
        assert await read(reader) == want

    play(story, memory=MEMORY)


@PATHS
@SIZES
@pytest.mark.parametrize("first", ["read", "looked at"])
def test_a_file_that_was_replaced_by_a_longer_one_is_stale_though_its_bytes_were_evicted(
    path: bytes, size: int, first: str
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(path, tagged(b"old", size))
        reader = await stack.open(path[3:])
        await read(reader)
        stack.evict()
        stack.files.replace(path, tagged(b"new", size + 1000))
        await asyncio.sleep(TTL)
        with pytest.raises(StaleVersion):
            if first == "read":
                await read(reader, 0, 8)
            await stack.tree.refresh(reader.node)
            await read(reader, 0, 8)
        assert await stack.read(path[3:]) == tagged(b"new", size + 1000)

    play(story, memory=MEMORY)


def test_a_file_whose_blocks_left_the_disk_before_anybody_read_them_has_grown(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", 2_500_000))
        await stack.read(b"ck.pt")
        await stack.restart()
        reader = await stack.open(b"ck.pt")
        assert await stack.cache.flush()
        await asyncio.to_thread(prune, stack.cache.disk, 0)
        stack.files.append(FILE, b"more")
        await asyncio.sleep(TTL)
        await stack.tree.refresh(reader.node)
        assert await read(reader) == tagged(b"old", 2_500_000) + b"more"

    play(story, place=tmp_path)


def test_a_file_whose_blocks_left_memory_and_disk_is_told_by_what_was_given_out(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", 2_500_000))
        await stack.read(b"ck.pt")
        await stack.restart()
        for number, new in enumerate((tagged(b"old", 2_500_000) + b"more", tagged(b"new", 2_600_000))):
            reader = await stack.open(b"ck.pt")
            await read(reader, 0, 8)
            assert await stack.cache.flush()
            await asyncio.to_thread(prune, stack.cache.disk, 0)
            stack.evict()
            stack.files.replace(FILE, new)
            await asyncio.sleep(TTL)
            await stack.tree.refresh(reader.node)
            assert reader.content.stale is (number == 1)
            assert await stack.read(b"ck.pt") == new

    play(story, place=tmp_path, memory=MEMORY)


# --- the ends ---------------------------------------------------------------------------------------------------------


def test_the_ends_are_the_first_and_the_last_bytes_that_were_ever_here() -> None:
    ends = Ends()
    assert ends.samples() == []
    middle = Block(BLOCK)
    middle.write(100, b"a" * 10_000)
    ends.note(middle, BLOCK)
    assert _ranges(ends) == [(BLOCK + 100, BLOCK + 100 + COMPARE), (BLOCK + 10_100 - COMPARE, BLOCK + 10_100)]
    first = Block(BLOCK)
    first.write(0, b"b" * 10)
    ends.note(first, 0)
    assert _ranges(ends)[0] == (0, 10)
    first.write(10, b"b" * 10)
    ends.note(first, 0)
    assert _ranges(ends)[0] == (0, 20)
    before = ends.samples()
    ends.note(middle, BLOCK)
    assert ends.samples() == before


def test_a_short_end_does_not_replace_what_was_before_it() -> None:
    ends = Ends()
    block = Block(BLOCK)
    block.write(0, b"a" * 10_000)
    ends.note(block, 0)
    for start in (10_000, 10_010):
        evicted = Block(BLOCK)
        evicted.write(start, b"b" * 10)
        ends.note(evicted, 0)
    assert _ranges(ends) == [(0, COMPARE), (10_000 - COMPARE, 10_000), (10_000, 10_010), (10_010, 10_020)]


def _ranges(ends: Ends) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in ends.samples()]
