"""Growth or replacement, and one version for each handle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from vfs.base.errors import NoSuchPath, StaleVersion
from vfs.files.node import Kind
from vfs.files.reader import Reader

FILE = ROOT + b"/ck.pt"
LOG = ROOT + b"/console.log"
BIG = 3 << 20


async def follow(stack: MemoryStack, reader: Reader, start: int) -> bytes:
    """What a program reads from `start` on, after the kernel has asked for the size."""
    await stack.tree.refresh(reader.node)
    return await read(reader, start)


# --- growth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["append", "rename"])
@pytest.mark.parametrize("path", [FILE, LOG], ids=["checkpoint", "log"])
def test_an_open_file_shows_what_was_appended_and_only_the_tail_is_fetched(path: bytes, way: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(path, tagged(b"old", BIG))
        reader = await stack.open(path[3:])
        assert await read(reader) == tagged(b"old", BIG)
        fetched, node = stack.remote.bytes_read, reader.node
        longer = tagged(b"old", BIG) + tagged(b"more", 5000)
        if way == "append":
            stack.files.append(path, longer[BIG:])
        else:
            stack.files.replace(path, longer)
        await asyncio.sleep(TTL)
        assert await follow(stack, reader, BIG) == longer[BIG:]
        assert await read(reader) == longer
        assert stack.remote.bytes_read - fetched < 20_000
        assert await stack.node(path[3:]) is node
        assert await stack.read(path[3:]) == longer

    play(story)


@pytest.mark.parametrize("path", [FILE, LOG], ids=["checkpoint", "log"])
@pytest.mark.parametrize(
    "new",
    [tagged(b"new", BIG + 1000), tagged(b"old", BIG)[:-8] + tagged(b"new", 1000), b"!" + tagged(b"old", BIG)],
    ids=["all other bytes", "another end", "another beginning"],
)
def test_a_longer_file_with_other_bytes_is_another_version(path: bytes, new: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(path, tagged(b"old", BIG))
        reader = await stack.open(path[3:])
        await read(reader)
        stack.files.replace(path, new)
        await asyncio.sleep(TTL)
        with pytest.raises(StaleVersion):
            await follow(stack, reader, 0)
        assert await stack.read(path[3:]) == new
        assert await stack.node(path[3:]) is not reader.node

    play(story)


@pytest.mark.parametrize("change", ["shorter", "as long", "older and longer", "touched", "emptied"])
def test_anything_but_growth_is_another_version(change: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        await read(reader, 0, 1000)
        new = {
            "shorter": tagged(b"old", BIG - 1),
            "as long": tagged(b"new", BIG),
            "older and longer": tagged(b"old", BIG + 1),
            "touched": tagged(b"old", BIG),
            "emptied": b"",
        }[change]
        stack.files.write(FILE, new)
        if change == "older and longer":
            stack.files.utime(FILE, 1000)
        await asyncio.sleep(TTL)
        with pytest.raises(StaleVersion):
            await follow(stack, reader, 0)
        assert await stack.read(b"ck.pt") == new

    play(story)


def test_growth_of_a_file_of_which_nothing_is_known_is_not_asked_about() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        node = await stack.node(b"ck.pt")
        stack.files.append(FILE, b"more")
        await asyncio.sleep(TTL)
        assert await stack.node(b"ck.pt") is node
        assert node.version.size == BIG + 4
        assert stack.remote.requests["read"] == 0

    play(story)


def test_a_hundred_appends_cost_their_bytes_and_little_more() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", 20 << 20))
        reader = await stack.open(b"console.log")
        await read(reader)
        before, size = stack.remote.bytes_read, 20 << 20
        for number in range(100):
            stack.files.append(LOG, tagged(b"%d" % number, 4096))
            await asyncio.sleep(TTL)
            assert await follow(stack, reader, size) == tagged(b"%d" % number, 4096)
            size += 4096
        assert stack.remote.bytes_read - before < 2_000_000

    play(story)


# --- one version ----------------------------------------------------------------------------------------------------


def test_a_file_rewritten_under_a_read_gives_no_mixed_bytes() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        loop.call_later(0.35, stack.files.write, FILE, tagged(b"new", BIG))
        with pytest.raises(StaleVersion):
            await read(reader)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)

    play(story, between=0.1)


def test_a_handle_of_a_replaced_file_is_stale_also_for_what_is_in_memory_and_a_new_one_is_whole() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        assert await read(reader) == tagged(b"old", BIG)
        stack.files.replace(FILE, tagged(b"new", BIG))
        await asyncio.sleep(TTL)
        assert await stack.read(b"ck.pt") == tagged(b"new", BIG)
        with pytest.raises(StaleVersion):
            await read(reader, 0, 10)
        assert reader.read_now(0, 10) is None

    play(story)


@pytest.mark.parametrize("idle", [0, 60], ids=["at once", "with its handle closed meanwhile"])
def test_a_handle_of_a_removed_file_is_stale_and_a_new_open_finds_no_file(idle: float) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        assert await read(reader, 0, 10) == b"old.....ol"
        stack.files.remove(FILE)
        await asyncio.sleep(idle)
        if idle:
            with pytest.raises(StaleVersion):
                await read(reader, 2 << 20, 10)
        else:
            assert await read(reader, 2 << 20, 10) == tagged(b"old", BIG)[2 << 20 :][:10]
        await asyncio.sleep(TTL)
        with pytest.raises(NoSuchPath):
            await stack.open(b"ck.pt")
        with pytest.raises(StaleVersion):
            await read(reader, 1 << 20, 10)

    play(story)


@pytest.mark.parametrize("known", ["some", "all, not compared", "none"])
def test_a_file_that_became_a_directory_is_stale_and_the_next_look_finds_the_directory(known: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        if known == "all, not compared":
            stack.files.write(FILE, tagged(b"old", 1000))
        reader = await stack.open(b"ck.pt")
        if known != "none":
            await read(reader, 0, 1000)
        await asyncio.sleep(60)  # the server's handle is closed
        await stack.node(b"ck.pt")
        stack.files.remove(FILE)
        stack.files.mkdir(FILE)
        if known == "none":
            stack.fetcher.handles.reopen(reader.content)
        with pytest.raises(StaleVersion):
            await read(reader, 0 if known == "all, not compared" else BIG // 2, 1000)
        assert (await stack.node(b"ck.pt")).kind is Kind.DIRECTORY

    play(story)


def test_a_server_that_says_more_than_it_has_gives_an_error_and_no_zeros() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        stack.files.claim(FILE, BIG + 1000)
        assert await stack.read(b"ck.pt", 0, BIG - 500_000) == tagged(b"old", BIG - 500_000)
        for start in (BIG - 500, BIG + 500):
            with pytest.raises(Exception, match="sent") as caught:
                await stack.read(b"ck.pt", start, 10_000)
            assert not isinstance(caught.value, NoSuchPath)

    play(story)


def test_a_server_that_says_less_than_it_has_gives_what_it_says() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        stack.files.claim(FILE, 1000)
        assert await stack.read(b"ck.pt") == tagged(b"old", 1000)

    play(story)


# --- kept on disk ---------------------------------------------------------------------------------------------------


def test_after_a_restart_an_unchanged_file_moves_no_bytes_and_a_grown_one_its_tail(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        await stack.restart()
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)
        assert stack.remote.bytes_read == 0
        stack.files.append(FILE, b"more")
        await stack.restart()
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG) + b"more"
        assert stack.remote.bytes_read < 100_000

    play(story, place=tmp_path)


@pytest.mark.parametrize("new", [tagged(b"new", BIG), tagged(b"new", BIG + 1000), tagged(b"new", 1000)])
def test_after_a_restart_a_replaced_file_is_the_new_one(tmp_path: Path, new: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        stack.files.replace(FILE, new)
        await stack.restart()
        assert await stack.read(b"ck.pt") == new

    play(story, place=tmp_path)


def test_on_another_host_the_ends_of_a_file_are_compared_before_the_rest_is_trusted(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        stack.tree.lineages.host = "one"
        await stack.read(b"ck.pt")
        await stack.restart()
        stack.tree.lineages.host = "two"
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)
        assert 0 < stack.remote.bytes_read < 20_000
        mtime = stack.files.find(FILE).mtime
        stack.files.write(FILE, tagged(b"other", BIG))
        stack.files.utime(FILE, mtime)
        await stack.restart()
        stack.tree.lineages.host = "three"
        assert await stack.read(b"ck.pt") == tagged(b"other", BIG)

    play(story, place=tmp_path)


def test_a_file_shown_in_place_of_a_link_keeps_its_bytes_from_offline_to_online(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/out")
        stack.old(b"/out/f", tagged(b"old", BIG))
        stack.files.symlink(ROOT + b"/l.pt", b"/out/f")
        await stack.tree.start()
        await stack.read(b"l.pt")
        await stack.restart(offline=True)
        reader = await stack.open(b"l.pt")
        assert await read(reader) == tagged(b"old", BIG)
        stack.remote.go_online()
        await asyncio.sleep(TTL)
        assert await stack.read(b"l.pt") == tagged(b"old", BIG)
        assert await read(reader) == tagged(b"old", BIG)
        assert stack.remote.bytes_read < 20_000

    play(story, place=tmp_path)


def test_after_a_restart_a_file_that_goes_on_growing_moves_its_tail(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", BIG))
        await stack.read(b"console.log")
        stack.files.append(LOG, b"one")
        await stack.restart()
        asyncio.get_running_loop().call_later(0.2, stack.files.append, LOG, b"two")
        await stack.node(b"console.log")
        await asyncio.sleep(0.15)
        reader = await stack.open(b"console.log")
        assert await read(reader, 0, BIG) == tagged(b"old", BIG)
        await asyncio.sleep(TTL)
        await stack.tree.refresh(reader.node)
        assert await read(reader, BIG) == b"onetwo"
        assert stack.remote.bytes_read < 100_000

    play(story, place=tmp_path, latency=0.1)


# --- what is not caught ---------------------------------------------------------------------------------------------


def test_growth_is_told_by_the_first_and_the_last_bytes_that_are_known_and_not_by_those_between() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.read(b"ck.pt")
        changed = bytearray(tagged(b"old", BIG + 1000))
        changed[BIG // 2 : BIG // 2 + 8] = b"--------"
        stack.files.replace(FILE, bytes(changed))
        await asyncio.sleep(TTL)
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG + 1000)

    play(story)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_taken_for_the_same() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)
        mtime = stack.files.find(FILE).mtime
        stack.files.replace(FILE, tagged(b"new", BIG))
        stack.files.utime(FILE, mtime)
        await asyncio.sleep(TTL)
        assert await stack.read(b"ck.pt") == tagged(b"old", BIG)

    play(story)


def test_a_log_rewritten_with_the_same_length_within_its_second_is_taken_for_the_same() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(LOG, tagged(b"old", BIG))
        assert await stack.read(b"console.log") == tagged(b"old", BIG)
        stack.files.write(LOG, tagged(b"new", BIG))
        await asyncio.sleep(60)
        assert await stack.read(b"console.log") == tagged(b"old", BIG)

    play(story)
