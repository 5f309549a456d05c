"""Files that are being written: what waits until they are settled, what is given out at once, and whose clock counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from tests.lab.waiting import now
from vfs.base.errors import StaleVersion
from vfs.files.read_whole import with_reader
from vfs.files.reader import Reader, open_reader

FILE = ROOT + b"/ck.pt"
SMALL = ROOT + b"/small.pt"
LOG = ROOT + b"/console.log"
BIG = 3 << 20


def later(seconds: float, change: object, *arguments: object) -> None:
    asyncio.get_running_loop().call_later(seconds, change, *arguments)  # type: ignore[arg-type]


# --- who waits ------------------------------------------------------------------------------------------------------


def test_a_file_that_nobody_has_written_to_for_seconds_is_read_at_once() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        began = now()
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)
        assert now() == began

    play(story)


def test_a_file_that_was_just_written_is_waited_for_until_any_later_write_must_show() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(FILE, tagged(b"new", BIG))
        began = now()
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)
        assert 1 < now() - began < 3.5

    play(story)


def test_a_file_that_was_watched_since_it_was_listed_need_not_be_waited_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.link.tells_time = False
        stack.old(FILE, tagged(b"old", BIG))
        await stack.tree.listing(stack.tree.root)
        await asyncio.sleep(10)
        began = now()
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)
        assert now() == began

    play(story)


def test_a_file_that_is_being_rewritten_in_place_is_given_whole_when_it_is_done() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        later(0.5, stack.files.write, FILE, b"")
        for part in range(12):
            later(0.6 + part / 2, stack.files.append, FILE, tagged(b"new", BIG // 12))
        await asyncio.sleep(TTL + 1)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)

    play(story)


def test_a_file_that_is_rewritten_again_and_again_is_stale_when_the_patience_ends() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.versions.patience = 10.0

        def rewrite(number: int) -> None:
            stack.files.write(FILE, tagged(b"%d" % number, BIG))
            later(0.9, rewrite, number + 1)

        rewrite(0)
        began = now()
        with pytest.raises(StaleVersion):
            await stack.open(b"ck.pt")
        assert 20 <= now() - began < 21  # the kernel opens twice

    play(story)


@pytest.mark.parametrize("gone", [FILE, ROOT + b"/d"], ids=["file", "directory"])
def test_who_waits_for_a_file_that_goes_away_is_told_at_once(gone: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        path = FILE if gone == FILE else gone + b"/ck.pt"
        if gone != FILE:
            stack.files.mkdir(gone)
        stack.files.write(path, tagged(b"new", BIG))
        node = await stack.node(path[3:])
        later(1.05, stack.files.rmtree, gone)
        seen = node if gone == FILE else await stack.node(b"d")
        later(1.1, lambda: asyncio.ensure_future(stack.tree.versions.ask(seen, None)))
        began = now()
        with pytest.raises(StaleVersion):
            await stack.tree.versions.open(node)
        assert now() - began < 2

    play(story)


def test_a_copy_waits_for_a_small_file_too() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"a half")
        later(1.0, stack.files.write, SMALL, b"whole!")
        copies = []

        async def copy(reader: Reader) -> None:
            copies.append(await read(reader))

        await with_reader(stack.tree, stack.fetcher, await stack.node(b"small.pt"), 10.0, copy)
        assert copies == [b"whole!"]

    play(story)


def test_who_waits_for_a_file_that_becomes_a_directory_is_told_at_once() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        node = await stack.node(b"ck.pt")
        stack.files.remove(FILE)
        stack.files.mkdir(FILE)
        stack.files.find(FILE).claimed = 1 << 20  # as one of very many names has it
        await asyncio.sleep(TTL)
        began = now()
        with pytest.raises(StaleVersion):
            await open_reader(stack.tree, stack.fetcher, node)
        assert now() == began

    play(story)


# --- who does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LOG, SMALL], ids=["only appended to", "one read"])
def test_what_is_served_at_once_though_it_was_just_written(path: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        data = tagged(b"new", BIG if path == LOG else 30_000)
        stack.files.write(path, data)
        began = now()
        assert await stack.read(path[3:]) == data
        assert now() == began

    play(story)


@pytest.mark.parametrize("path", [LOG, SMALL], ids=["only appended to", "one read"])
def test_who_opens_what_was_just_replaced_by_such_a_file_does_not_wait_either(path: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(path, b"old, and longer")
        assert await stack.read(path[3:]) == b"old, and longer"
        node = await stack.node(path[3:])
        stack.files.write(path, b"new")
        await asyncio.sleep(TTL)
        began = now()
        with pytest.raises(StaleVersion):  # upon which the kernel looks the name up again
            await open_reader(stack.tree, stack.fetcher, node)
        assert await stack.read(path[3:]) == b"new"
        assert now() == began

    play(story)


def test_growth_is_served_at_once_though_it_was_just_written() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        stack.files.append(FILE, b"more")
        await asyncio.sleep(TTL)
        stack.files.append(FILE, b"more")
        began = now()
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG) + b"moremore"
        assert now() == began

    play(story)


# --- what was given out before ----------------------------------------------------------------------------------------


def test_a_small_file_rewritten_within_the_same_second_is_stale_for_who_read_it_before() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        assert not reader.keep_pages
        stack.files.write(SMALL, b"new")
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        with pytest.raises(StaleVersion):
            await read(reader)
        assert await stack.read(b"small.pt") == b"new"

    play(story)


@pytest.mark.parametrize("path", [SMALL, FILE], ids=["small", "large"])
def test_a_file_renamed_into_place_within_the_same_second_is_not_taken_for_the_one_that_is_open(
    path: bytes,
) -> None:
    async def story(stack: MemoryStack) -> None:
        size = 1000 if path == SMALL else BIG
        stack.files.write(path, tagged(b"old", size))
        later(0.1, stack.files.replace, path, tagged(b"new", size))
        reading = asyncio.ensure_future(stack.read(path[3:]))
        await asyncio.sleep(TTL + 1)
        assert await reading == tagged(b"old" if path == SMALL else b"new", size)
        assert await stack.read(path[3:]) == tagged(b"new", size)

    play(story)


def test_a_rewrite_of_what_was_given_out_and_is_not_in_memory_any_more_is_found_too() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        stack.cache.drop(reader.content.lineage)  # as if other files had needed the room
        stack.files.write(SMALL, b"new")
        await read(reader)
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        with pytest.raises(StaleVersion):
            await read(reader)

    play(story)


def test_what_was_given_out_and_is_not_in_memory_any_more_is_good_when_it_was_right() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        stack.cache.drop(reader.content.lineage)
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        assert await read(reader) == b"old"
        assert reader.keep_pages

    play(story)


def test_a_file_that_grows_while_it_is_compared_is_not_replaced() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        assert reader.node.settled
        stack.files.append(SMALL, b"more")
        assert await read(reader, 0, 3) == b"old"
        await stack.tree.versions.ask(reader.node, None)
        assert await read(reader) == b"oldmore"
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        assert await read(reader) == b"oldmore"
        assert reader.keep_pages

    play(story)


def test_bytes_that_were_read_while_the_file_changed_are_not_kept_as_settled() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        await read(reader, 0, 1000)
        assert reader.content.trusted
        stack.remote.delay("read", before=1.0)
        late = asyncio.ensure_future(read(reader, 2 << 20, 1000))
        await asyncio.sleep(0.1)
        stack.files.append(FILE, b"more")
        await stack.tree.versions.ask(reader.node, None)
        assert await late == tagged(b"old", BIG)[2 << 20 :][:1000]
        assert not reader.keep_pages
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        assert await read(reader, BIG) == b"more"
        assert reader.keep_pages

    play(story)


def test_unsettled_bytes_are_not_kept_on_disk(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        assert await stack.read(b"small.pt") == b"old"
        mtime = stack.files.find(SMALL).mtime
        await stack.restart()
        stack.files.write(SMALL, b"new")
        stack.files.utime(SMALL, mtime)
        await asyncio.sleep(TTL + 1)
        assert await stack.read(b"small.pt") == b"new"
        await stack.restart()
        assert await stack.read(b"small.pt") == b"new"
        assert stack.remote.bytes_read == 0

    play(story, place=tmp_path)


# --- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0], ids=["an hour behind", "right", "an hour ahead"])
def test_whatever_the_servers_clock_says_a_file_being_written_is_waited_for(skew: float, told: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.link.tells_time = told
        stack.files.write(FILE, tagged(b"old", BIG))
        for part in range(4):
            later(0.5 + part, stack.files.write_at, FILE, part * BIG // 4, tagged(b"new", BIG // 4))
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)

    play(story, skew=skew)


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("mtime", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_an_odd_mtime_breaks_nothing(mtime: int, told: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.link.tells_time = told
        stack.files.write(FILE, tagged(b"old", BIG))
        stack.files.utime(FILE, mtime)
        reader = await stack.open(b"ck.pt")
        assert await read(reader) == tagged(b"old", BIG)
        assert reader.node.attributes.mtime == mtime
        stack.files.write(FILE, tagged(b"new", BIG))
        await asyncio.sleep(TTL)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)
        with pytest.raises(StaleVersion):
            await read(reader)

    play(story)


def test_a_look_whose_answer_was_late_does_not_count_from_when_it_was_asked() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.link.tells_time = False
        await asyncio.sleep(0.1)
        stack.files.write(FILE, tagged(b"old", BIG))
        stack.remote.delay("lstat", before=1.95)
        later(1.9, stack.files.write, FILE, tagged(b"old", BIG))
        later(2.5, stack.files.write, FILE, tagged(b"new", BIG))  # in the same second
        node = await stack.node(b"ck.pt")
        assert not node.settled
        await asyncio.sleep(0.1)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)

    play(story)


def test_growth_followed_within_the_second_by_a_rewrite_of_the_same_length_is_found() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        assert await read(reader) == tagged(b"old", BIG)
        stack.files.append(FILE, b"more")
        await stack.tree.versions.ask(reader.node, None)
        assert reader.size == BIG + 4
        stack.files.write(FILE, tagged(b"new", BIG + 4))
        await asyncio.sleep(TTL + 1)
        await stack.tree.refresh(reader.node)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG + 4)
        with pytest.raises(StaleVersion):
            await read(reader)

    play(story)


# --- how long a wait lasts, and growth before the first read --------------------------------------------------------


def test_who_waits_for_a_file_to_settle_waits_no_longer_when_the_server_falls_silent() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.versions.patience = 10.0
        stack.files.write(FILE, tagged(b"new", BIG))
        node = await stack.node(b"ck.pt")
        later(0.5, stack.remote.go_silent)
        began = now()
        with pytest.raises(TimeoutError):
            await stack.tree.versions.open(node)
        assert now() - began <= 10.0

    play(story)


def test_an_open_file_that_grows_before_anything_of_it_was_read_is_not_waited_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")

        def grow() -> None:
            stack.files.append(FILE, b"more")
            later(0.7, grow)

        await asyncio.sleep(1)
        grow()
        await asyncio.sleep(5)
        began = now()
        assert await read(reader, 1 << 20, 1000) == tagged(b"old", BIG)[1 << 20 :][:1000]
        assert now() - began < 1

    play(story, latency=0.1)


def test_the_ends_of_a_file_that_nobody_writes_to_are_not_fetched_for_nobody() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.open(b"ck.pt")
        await asyncio.sleep(1)
        assert stack.remote.bytes_read == 0

    play(story)
