"""Files held open on the server: a cold open(2) costs as few round trips as it can; nothing stays open for nobody."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from tests.lab.memory_stack import TTL, MemoryStack, play, read
from vfs.base.errors import ServerFailure
from vfs.fetch.meter import Meter
from vfs.files.node import Kind
from vfs.files.reader import open_reader

MODEL = b"/r/model.pt"


async def _known(stack: MemoryStack, data: bytes = b"x" * 100_000) -> None:
    """A file that was listed once, longer ago than the TTL."""
    stack.old(MODEL, data)
    await stack.tree.start()
    await asyncio.sleep(2 * TTL)


def test_a_named_file_is_opened_while_its_attributes_are_asked_for() -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        began = asyncio.get_running_loop().time()
        reader = await stack.open(b"model.pt")
        assert asyncio.get_running_loop().time() - began < 1.5 * 0.1  # one round trip, not two
        assert await read(reader, 0, 10) == b"x" * 10
        reader.close()
        assert stack.remote.requests["open"] == 1

    play(story, latency=0.1)


def test_nothing_is_opened_whose_kind_is_not_known() -> None:
    """To open a FIFO would block the server's process."""

    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/r/d")
        for name in (b"model.pt", b"pipe.pt", b"pipe.yaml"):
            stack.old(b"/r/d/" + name, b"x" * 1000)
        for name in (b"pipe.pt", b"pipe.yaml"):
            stack.files.find(b"/r/d/" + name).mode = stat.S_IFIFO | 0o600
        await stack.tree.start()
        for name in (b"d/pipe.pt", b"d/pipe.yaml", b"d/pipe.pt"):
            assert (await stack.node(name)).kind is Kind.OTHER
            await asyncio.sleep(2 * TTL)
        assert stack.remote.requests["open"] == 0
        await stack.restart()
        await stack.tree.start()
        directory = await stack.node(b"d")
        began = asyncio.get_running_loop().time()
        reader = await open_reader(stack.tree, stack.fetcher, await stack.tree.lookup(directory, b"model.pt"))
        assert asyncio.get_running_loop().time() - began < 2.5 * 0.1  # what it is, and opening it
        reader.close()
        assert stack.remote.requests["open"] == 1

    play(story, latency=0.1)


def test_what_an_earlier_mount_left_is_not_opened_early(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        await stack.restart(offline=True)
        stack.remote.go_online()
        stack.files.find(MODEL).mode = stat.S_IFIFO | 0o600
        assert (await stack.node(b"model.pt")).kind is Kind.OTHER
        assert stack.remote.requests["open"] == 0

    play(story, latency=0.1, place=tmp_path)


def test_a_file_that_is_only_looked_at_is_closed_again_and_not_opened_twice_for_nothing() -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        for _ in range(5):
            await stack.node(b"model.pt")
            await asyncio.sleep(2 * TTL)
        assert stack.remote.requests["open"] == 1
        assert stack.remote.open_handles == 0

    play(story, latency=0.1)


def test_a_file_that_is_replaced_after_it_was_opened_early_is_opened_anew() -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        stack.remote.delay("lstat", before=0.05)

        async def replace() -> None:
            await asyncio.sleep(0.02)
            stack.old(b"/r/new", b"y" * 90_000)
            stack.files.rename(b"/r/new", MODEL)

        replacing = asyncio.ensure_future(replace())
        assert await stack.read(b"model.pt") == b"y" * 90_000
        await replacing

    play(story, latency=0.01)


def test_an_idle_handle_is_closed() -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        reader = await stack.open(b"model.pt")
        await read(reader, 0, 10)
        assert stack.remote.open_handles == 1
        await asyncio.sleep(30)
        assert stack.remote.open_handles == 0
        assert await read(reader, 50_000, 10) == b"x" * 10
        reader.close()

    play(story)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.rate(0.0) == 0.0
    for tick in range(101):
        meter.add(1000, tick / 10)
    assert 9_000 <= meter.rate(10.0) <= 11_000
    assert meter.rate(20.0) == 0.0


def test_an_early_open_that_failed_is_not_what_a_later_one_gets() -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        stack.remote.fail("open", ServerFailure("out of handles"))
        await stack.node(b"model.pt")
        assert await stack.read(b"model.pt", 0, 10) == b"x" * 10

    play(story, latency=0.1)


def test_an_early_open_is_not_what_a_file_that_grew_is_compared_by(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        await _known(stack)
        await stack.read(b"model.pt")
        await stack.restart()
        await stack.tree.start()
        await asyncio.sleep(2 * TTL)
        stack.files.append(MODEL, b"y")
        await stack.node(b"model.pt")  # opens it
        stack.files.replace(MODEL, b"x" * 100_000 + b"yz")
        await stack.tree.refresh_listing(stack.tree.root)
        assert await stack.read(b"model.pt") == b"x" * 100_000 + b"yz"
        assert stack.remote.bytes_read < 50_000

    play(story, place=tmp_path)
