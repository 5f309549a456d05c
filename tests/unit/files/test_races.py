"""Answers that overtake each other, and files that change between two steps, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from vfs.base.errors import StaleVersion

LOG = ROOT + b"/console.log"
FILE = ROOT + b"/ck.pt"
SMALL = ROOT + b"/small.pt"
BIG = 3 << 20


def test_an_answer_that_was_overtaken_does_not_make_growth_a_replacement() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", BIG))
        reader = await stack.open(b"console.log")
        await read(reader, 0, 1000)
        stack.files.append(LOG, b"one")
        stack.remote.delay("read", after=1.0)
        late = asyncio.ensure_future(read(reader, 2 << 20, 1000))
        await asyncio.sleep(0.1)
        stack.files.append(LOG, b"two")
        await stack.tree.versions.ask(reader.node, None)
        assert reader.size == BIG + 6
        assert await late == tagged(b"old", BIG)[2 << 20 :][:1000]
        assert await read(reader, BIG) == b"onetwo"

    play(story)


def test_an_open_that_was_overtaken_does_not_make_growth_a_replacement() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", BIG))
        node = await stack.node(b"console.log")
        stack.files.append(LOG, b"one")
        stack.remote.delay("open", after=1.0)
        opening = asyncio.ensure_future(stack.open(b"console.log"))
        await asyncio.sleep(0.1)
        stack.files.append(LOG, b"two")
        await stack.tree.versions.ask(node, None)
        reader = await opening
        assert reader.node is node
        assert await read(reader, BIG) == b"onetwo"

    play(story)


def test_a_file_that_grows_between_its_open_and_the_first_read_has_grown() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", BIG))
        reader = await stack.open(b"console.log")
        stack.files.append(LOG, b"one")
        assert await read(reader, 0, 1000) == tagged(b"old", 1000)
        assert await read(reader, BIG) == b"one"

    play(story)


def test_what_comes_of_an_older_version_than_the_one_adopted_meanwhile_is_dropped() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        node = await stack.node(b"ck.pt")
        content = await stack.tree.versions.open(node)
        stack.remote.delay("read", after=1.0)
        stack.fetcher.ahead("nobody", content, [(0, 1 << 20)])
        await asyncio.sleep(0.1)
        new = tagged(b"new", BIG + 1000)
        stack.files.replace(FILE, new)
        await stack.tree.versions.ask(node, None)
        await asyncio.sleep(3)
        assert await stack.read(b"ck.pt") == new

    play(story)


def test_comparisons_that_overtake_each_other_do_not_make_growth_a_replacement() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(LOG, tagged(b"old", BIG))
        reader = await stack.open(b"console.log")
        await read(reader, 0, 1000)
        stack.files.append(LOG, b"one")
        first = asyncio.ensure_future(read(reader, 1 << 20, 1000))
        await asyncio.sleep(0.15)  # it is found grown; the file is being opened to compare it
        stack.remote.delay("read", after=1.0, times=2)
        await asyncio.sleep(0.11)
        stack.files.append(LOG, b"two")
        second = asyncio.ensure_future(read(reader, 2 << 20, 1000))
        assert await second == tagged(b"old", BIG)[2 << 20 :][:1000]
        assert await first == tagged(b"old", BIG)[1 << 20 :][:1000]
        assert await read(reader, BIG) == b"onetwo"

    play(story, latency=0.1)


def test_what_was_given_out_unsettled_is_compared_also_when_the_first_who_did_gave_up() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        stack.files.write(SMALL, b"new")
        await asyncio.sleep(3)
        await stack.tree.versions.ask(reader.node, None)
        assert reader.node.settled
        stack.remote.delay("read", before=0.06)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await read(reader)
        with pytest.raises(StaleVersion):
            await read(reader)
        assert await stack.read(b"small.pt") == b"new"

    play(story)


def test_what_was_given_out_unsettled_is_compared_once_however_many_read() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(3)
        await stack.tree.versions.ask(reader.node, None)
        before = stack.remote.requests["read"]
        assert await asyncio.gather(*(read(reader) for _ in range(10))) == [b"old"] * 10
        assert stack.remote.requests["read"] == before + 1
        assert reader.keep_pages

    play(story, latency=0.1)


def test_a_file_that_is_gone_when_it_should_be_compared_is_stale() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        reader = await stack.open(b"small.pt")
        assert await read(reader) == b"old"
        await asyncio.sleep(60)  # the server's handle is closed
        stack.remote.delay("open", before=0.05)
        await stack.tree.versions.ask(reader.node, None)
        await asyncio.sleep(0.02)  # the file is being opened to be compared
        stack.files.remove(SMALL)
        with pytest.raises(StaleVersion):
            await read(reader)

    play(story)


@pytest.mark.parametrize("known", [True, False], ids=["known before", "not known before"])
@pytest.mark.parametrize("path", [FILE, SMALL, LOG], ids=["large", "small", "log"])
def test_a_file_that_grows_faster_than_it_can_be_asked_about_is_read_all_the_same(
    path: bytes, known: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        size = 1000 if path == SMALL else BIG
        stack.old(path, tagged(b"old", size))
        reader = await stack.open(path[3:])
        if known:
            assert await read(reader, 0, 8) == b"old....."

        def grow() -> None:
            stack.files.append(path, b"more")
            if loop.time() < end:
                loop.call_later(0.03, grow)

        began, end = loop.time(), loop.time() + 3
        grow()
        assert await read(reader, size // 2, 8) == tagged(b"old", size)[size // 2 :][:8]
        # Of the large file nothing was known, so that nothing tells growth from a rewrite: it is waited for.
        assert loop.time() - began < (6 if path == FILE and not known else 1)
        await asyncio.sleep(6)
        await stack.tree.refresh(reader.node)
        assert await read(reader) == bytes(stack.files.find(path).data)

    play(story, latency=0.1)


def test_a_file_rewritten_in_place_between_its_open_and_the_first_read_is_not_read_half_way() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        new = tagged(b"new", BIG + (1 << 20))
        stack.files.write_at(FILE, 0, new[: 1 << 20])
        stack.files.write_at(FILE, BIG, new[BIG:])
        loop.call_later(0.5, stack.files.write_at, FILE, 1 << 20, new[1 << 20 : BIG])
        assert await read(reader) == new

    play(story)


def test_a_file_that_was_replaced_since_it_was_seen_to_have_grown_has_the_attributes_of_now() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        await stack.tree.listing(stack.tree.root)
        await stack.read(b"ck.pt", 0, 1000)
        stack.files.append(FILE, b"more")
        await asyncio.sleep(3)
        await stack.tree.listing(stack.tree.root)
        stack.files.write(FILE, b"new")
        await asyncio.sleep(3600)
        assert (await stack.node(b"ck.pt")).version.size == 3

    play(story)


def test_a_log_that_is_replaced_while_its_growth_is_read_is_not_mixed() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(LOG, tagged(b"old", BIG))
        reader = await stack.open(b"console.log")
        assert await read(reader, 0, 8) == b"old....."
        stack.files.append(LOG, b"more")
        new = tagged(b"new", BIG + 1000)
        loop.call_later(0.32, stack.files.replace, LOG, new)  # compared, and asked for once more
        with pytest.raises(StaleVersion):
            await read(reader, 2 << 20, 8)
        assert await stack.read(b"console.log") == new

    play(story, latency=0.1)


@pytest.mark.parametrize("name", [b"console.log", b"ck.pt"])
def test_a_read_whose_answer_is_late_is_as_long_as_the_file_was_said_to_be_meanwhile(name: bytes) -> None:
    """The kernel fills up with zeros what is short below a size that it was told."""

    async def story(stack: MemoryStack) -> None:
        path, size = ROOT + b"/" + name, 3 << 20
        stack.old(path, tagged(b"old", size - 1000))
        reader = await stack.open(name)
        await read(reader, 0, 1000)
        await asyncio.sleep(0.1)
        stack.evict()
        stack.remote.delay("read", after=5 * TTL)
        late = asyncio.ensure_future(read(reader, size - 4096, 4096))
        await asyncio.sleep(TTL)
        stack.files.append(path, tagged(b"new", 1000))
        await stack.tree.versions.ask(reader.node, None)
        assert stack.service.shown(reader.node).size == size
        assert not late.done()
        assert await late == (tagged(b"old", size - 1000) + tagged(b"new", 1000))[size - 4096 :]

    play(story, latency=0.01)


@pytest.mark.parametrize("times", [1, 2], ids=["replaced once", "replaced once more"])
def test_a_small_file_replaced_by_a_longer_one_while_it_is_read_is_given_whole(times: int) -> None:
    """The link is lost meanwhile, so that the read is asked again of another file than the one that was opened."""

    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(SMALL, tagged(b"v0", 556))
        reader = await stack.open(b"small.pt")

        def replace(number: int) -> None:
            stack.files.replace(SMALL, tagged(b"v%d" % number, 556 + 7 * number))
            stack.remote.go_offline()
            stack.remote.go_online()

        stack.remote.delay("read", after=0.1)
        for number in range(times):
            loop.call_later(0.15 + 0.15 * number, replace, number + 1)
        reading = asyncio.ensure_future(read(reader))
        await asyncio.sleep(0.02)
        await stack.tree.versions.ask(reader.node, None)  # asked later, and answered earlier
        assert await reading == tagged(b"v%d" % times, 556 + 7 * times)
        assert await read(reader) == tagged(b"v%d" % times, 556 + 7 * times)

    play(story, latency=0.1)


def test_a_read_that_saw_a_file_before_a_comparison_did_and_is_answered_after_it_does_not_make_it_stale() -> (
    None
):
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", BIG))
        reader = await stack.open(b"ck.pt")
        await read(reader, 0, 1000)
        stack.files.append(FILE, b"one")
        stack.remote.delay("read", before=1.0, times=2)
        looking = asyncio.ensure_future(stack.tree.versions.ask(reader.node, None))
        await asyncio.sleep(0.3)  # it is found grown, and compared
        stack.remote.delay("read", after=2.0)
        late = asyncio.ensure_future(read(reader, 2 << 20, 1000))
        await asyncio.sleep(0.2)
        stack.files.append(FILE, b"two")
        await looking
        assert reader.size == BIG + 6
        assert await late == tagged(b"old", BIG)[2 << 20 :][:1000]
        assert await read(reader, BIG) == b"onetwo"

    play(story, latency=0.1)
