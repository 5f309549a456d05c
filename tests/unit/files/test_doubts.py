"""What was given out before a file was settled: compared in the background, given again while nobody can be asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from tests.lab.waiting import now
from vfs.base.errors import NoSuchPath, StaleVersion, Unreachable
from vfs.cache.block import BLOCK
from vfs.fetch.samples import Doubts
from vfs.files.read_whole import settled_reader

FILE = ROOT + b"/ck.pt"
SMALL = ROOT + b"/small.pt"
NOTES = ROOT + b"/notes.dat"
BIG = 1 << 20
MORE = tagged(b"more", 700_000)


# --- nobody can be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", ["offline", "black hole"])
@pytest.mark.parametrize("look", [True, False], ids=["listed", "not listed"])
@pytest.mark.parametrize("after", [0.5, 3.5], ids=["seen at once", "seen late"])
def test_a_file_that_grew_is_read_while_nobody_can_be_asked(after: float, look: bool, down: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.tree.start()
        reader = await stack.open(b"ck.pt")
        await read(reader)
        stack.files.append(FILE, MORE)
        await asyncio.sleep(after)
        await stack.tree.versions.ask(reader.node, None)
        want = tagged(b"old", BIG) + MORE
        assert await stack.read(b"ck.pt") == want
        await asyncio.sleep(3)
        if look:
            await stack.tree.listing(stack.tree.root)
        if down == "offline":
            stack.remote.go_offline()
        else:
            stack.remote.go_silent()
            asyncio.get_running_loop().call_later(20, stack.remote.go_offline)
        await asyncio.sleep(12)
        began = now()
        assert await read(reader) == want
        assert now() - began < (0.01 if down == "offline" else 1)
        assert await stack.read(b"ck.pt") == want

    play(story, latency=0.05)


def test_what_cannot_be_compared_is_given_again_and_compared_when_there_is_a_link() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        stack.files.write(SMALL, b"new")
        await asyncio.sleep(TTL + 1)
        stack.remote.delay("open", before=60)
        await stack.tree.versions.ask(reader.node, None)
        assert reader.node.settled
        await asyncio.sleep(0.01)
        stack.remote.go_offline()
        assert await read(reader) == b"old"
        stack.remote.go_online()
        with pytest.raises(StaleVersion):
            await read(reader)
        assert await stack.read(b"small.pt") == b"new"

    play(story)


def test_what_is_lost_with_each_connection_is_given_again_too() -> None:
    """The link is up whenever one looks at it."""

    async def lost(*_: object) -> NoReturn:
        raise Unreachable("lost again and again")

    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(TTL + 1)
        stack.fetcher.read_past_cache = lost  # type: ignore[method-assign]
        await stack.tree.versions.ask(reader.node, None)
        assert await read(reader) == b"old"
        assert reader.content.doubts

    play(story)


def test_nothing_is_added_from_the_server_to_what_could_not_be_compared() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        assert await read(reader, 0, 8) == b"old....."
        stack.files.append(FILE, b"more")
        await stack.tree.versions.ask(reader.node, None)
        stack.files.write(FILE, tagged(b"new", BIG + 4))  # in the same second
        await asyncio.sleep(TTL + 1)
        stack.remote.go_silent()
        reader.node.settled = True  # as if the last answer had told
        assert await read(reader, 0, 8) == b"old....."
        asyncio.get_running_loop().call_later(5, stack.remote.go_on)
        with pytest.raises(StaleVersion):
            await read(reader, BIG // 2, 8)

    play(story, latency=0.05)


def test_a_copy_is_not_made_of_what_could_not_be_compared() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(TTL + 1)
        stack.remote.delay("read", before=60)
        await stack.tree.versions.ask(reader.node, None)
        stack.remote.go_offline()
        with pytest.raises(Unreachable):
            async with settled_reader(stack.tree, stack.fetcher, reader.node, 1.0):
                raise AssertionError("it was given")

    play(story)


def test_what_is_here_is_read_though_what_would_be_fetched_with_it_is_not(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", 3 * BIG))
        await stack.tree.start()
        reader = await stack.open(b"ck.pt")
        await stack.fetcher.need(reader.content, BIG, BIG + 1000)
        await stack.restart(offline=True)
        began = now()
        assert await stack.read(b"ck.pt", BIG, 1000) == tagged(b"old", 3 * BIG)[BIG : BIG + 1000]
        assert now() == began

    play(story, place=tmp_path)


def test_what_came_from_another_host_is_read_offline_and_compared_before_anything_is_added(
    tmp_path: Path,
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.lineages.host = "one"
        stack.old(FILE, tagged(b"old", 3 * BIG))
        await stack.tree.start()
        assert await stack.read(b"ck.pt", 0, BIG) == tagged(b"old", BIG)
        for host, same in (("two", True), ("three", False)):
            await stack.restart(offline=True)
            stack.tree.lineages.host = host
            reader = await stack.open(b"ck.pt")
            assert await read(reader, 0, BIG) == tagged(b"old", BIG)
            if same:
                stack.remote.go_online()
                assert await read(reader, BIG, 8) == tagged(b"old", 3 * BIG)[BIG : BIG + 8]
                assert await stack.read(b"ck.pt", 0, BIG) == tagged(b"old", BIG)
                assert stack.remote.bytes_read < BIG
            else:
                mtime = stack.files.find(FILE).mtime
                stack.files.write(FILE, tagged(b"other", 3 * BIG))
                stack.files.utime(FILE, mtime)
                stack.remote.go_online()
                with pytest.raises(StaleVersion):
                    await read(reader, 2 * BIG, 8)
                assert await stack.read(b"ck.pt") == tagged(b"other", 3 * BIG)

    play(story, place=tmp_path)


# --- in the background ------------------------------------------------------------------------------------------------


def test_what_was_given_out_is_compared_as_soon_as_the_file_is_seen_to_be_settled_and_kept_on_disk(
    tmp_path: Path,
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        await stack.tree.start()
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        assert not reader.keep_pages
        await asyncio.sleep(TTL + 1)
        await stack.tree.listing(stack.tree.root)
        await asyncio.sleep(0.5)
        assert reader.keep_pages
        await stack.restart(offline=True)
        assert await stack.read(b"small.pt") == b"old"

    play(story, latency=0.05, place=tmp_path)


def test_growth_that_is_seen_when_it_is_settled_leaves_nothing_in_doubt() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        await read(reader, 0, 8)
        stack.files.append(FILE, b"more")
        await asyncio.sleep(3.5)
        await stack.tree.refresh(reader.node)
        assert reader.size == BIG + 4
        assert reader.keep_pages

    play(story)


def test_hundreds_of_appends_are_compared_with_a_few_reads() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(NOTES, b"begin")
        reader = await stack.open(b"notes.dat")
        offset = len(await read(reader))
        for number in range(300):
            stack.files.append(NOTES, b"%08d" % number)
            await asyncio.sleep(0.999)
            await stack.tree.versions.ask(reader.node, None)
            offset += len(await read(reader, offset))
        assert len(reader.content.doubts) < 10
        await asyncio.sleep(3)
        stack.remote.requests.clear()
        began = now()
        assert await stack.read(b"notes.dat") == bytes(stack.files.find(NOTES).data)
        assert now() - began < 0.5
        assert reader.keep_pages
        assert stack.remote.requests["read"] < 10

    play(story, latency=0.05)


def test_many_pieces_are_compared_at_the_same_time() -> None:
    async def story(stack: MemoryStack) -> None:
        size = 20 * BIG
        stack.old(NOTES, tagged(b"old", size))
        reader = await stack.open(b"notes.dat")
        await read(reader, 0, 8)
        stack.files.append(NOTES, b"more")
        await stack.tree.versions.ask(reader.node, None)
        await asyncio.gather(*(read(reader, start, 8) for start in range(0, size, BIG // 2)))
        assert len(reader.content.doubts) > 30
        await asyncio.sleep(TTL + 1)
        began = now()
        await stack.tree.versions.ask(reader.node, None)
        assert await read(reader, 0, 8) == b"old....."
        assert reader.keep_pages
        assert now() - began < 2

    play(story, latency=0.2)


def test_who_reads_does_not_wait_for_a_long_comparison() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(TTL + 1)
        stack.remote.delay("read", before=20)
        await stack.tree.versions.ask(reader.node, None)
        stack.remote.link._silence = lambda: 0.0  # something comes all the time, if not what is waited for
        began = now()
        assert await read(reader) == b"old"
        assert now() - began == pytest.approx(5, abs=0.2)
        await asyncio.sleep(20)
        assert reader.keep_pages

    play(story)


def test_a_file_that_grew_by_very_much_before_it_was_settled_is_not_stale() -> None:
    async def story(stack: MemoryStack) -> None:
        size = 70 * BIG
        stack.old(NOTES, b"begin")
        reader = await stack.open(b"notes.dat")
        await read(reader)
        stack.files.append(NOTES, bytes(size))
        await stack.tree.versions.ask(reader.node, None)
        for start in range(0, size, BIG):
            await read(reader, start, BIG)
        await asyncio.sleep(TTL + 1)
        await stack.tree.versions.ask(reader.node, None)
        assert await read(reader, 0, 5) == b"begin"
        assert reader.keep_pages

    play(story)


def test_a_file_that_is_gone_leaves_nothing_under_way() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(TTL + 1)
        stack.files.remove(SMALL)
        with pytest.raises(NoSuchPath):
            await stack.read(b"small.pt")
        with pytest.raises(StaleVersion):
            await read(reader)

    play(story)


# --- the ranges -------------------------------------------------------------------------------------------------------


def test_ranges_that_follow_each_other_are_one_and_near_ones_are_read_together() -> None:
    doubts = Doubts()
    data = memoryview(tagged(b"some", BLOCK))
    for start in range(0, 1000, 10):
        doubts.add(start, data[start : start + 10])
    doubts.add(5000, data[5000:5010])
    doubts.add(5000, data[5000:5010])
    doubts.add(500_000, data[500_000:500_010])
    doubts.add(BLOCK, data[:10])
    assert len(doubts) == 4
    groups = list(doubts.groups())
    assert [[(one.start, one.end) for one in group] for group in groups] == [
        [(0, 1000), (5000, 5010)],
        [(500_000, 500_010)],
        [(BLOCK, BLOCK + 10)],
    ]
    assert all(one.matches(data[:6000], 0) for one in groups[0])
    assert not groups[0][0].matches(memoryview(tagged(b"other", 6000)), 0)
    doubts.add(1000, data[1000:1010])
    for group in groups:
        doubts.settle(group)
    assert [(one.start, one.end) for group in doubts.groups() for one in group] == [(0, 1010)]
