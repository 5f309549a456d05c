"""Names and parts of files by path, on virtual time over a server in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, tagged
from vfs.base.errors import AccessDenied, BeingWritten, NoSuchPath, NotDirectory, StaleVersion, Unreachable
from vfs.frontends.fsspec import browse

MIB = 1 << 20


def shown(infos: list[browse.Info]) -> dict[str, tuple[str, int]]:
    return {info["name"]: (info["type"], info["size"]) for info in infos}


async def parts(stack: MemoryStack, *spans: browse.Span) -> list[Any]:
    return await browse.parts(stack.service, spans)


def prepared(stack: MemoryStack) -> None:
    files = stack.files
    files.mkdir(ROOT + b"/e")
    files.mkdir(ROOT + b"/e/d")
    stack.old(ROOT + b"/e/f", b"12345")
    stack.old(ROOT + b"/e/d/g.log", b"123")
    files.symlink(ROOT + b"/e/to-file", b"d/g.log")
    files.symlink(ROOT + b"/e/to-directory", b"d")
    files.symlink(ROOT + b"/e/d/loop", b"..")
    files.symlink(ROOT + b"/e/nowhere", b"none")


def test_links_are_told_as_the_files_that_they_lead_to_and_loops_are_not_entered() -> None:
    async def story(stack: MemoryStack) -> None:
        prepared(stack)
        wanted = {
            "e/d": ("directory", 0),
            "e/f": ("file", 5),
            "e/to-file": ("file", 3),
            "e/to-directory": ("link", 0),
            "e/nowhere": ("link", 0),
        }
        assert shown(await browse.listing(stack.service, "e")) == wanted
        below = {"e/d/g.log": ("file", 3), "e/d/loop": ("link", 0)}
        root = {"": ("directory", 0), "e": ("directory", 0)}
        assert shown(await browse.below(stack.service, "", None)) == root | wanted | below
        assert shown(await browse.below(stack.service, "", 2)) == root | wanted
        assert shown(await browse.below(stack.service, "e/to-directory", None)) == {
            "e/to-directory": ("directory", 0),
            "e/to-directory/g.log": ("file", 3),
            "e/to-directory/loop": ("link", 0),
        }
        assert shown(await browse.below(stack.service, "e/f", None)) == {"e/f": ("file", 5)}
        assert (await browse.info(stack.service, "e/to-directory"))["type"] == "directory"
        for path, error in (("e/nowhere", NoSuchPath), ("e/f/x", NotDirectory)):
            with pytest.raises(error):
                await browse.info(stack.service, path)
            assert await browse.below(stack.service, path, None) == []

    play(story)


def test_many_directories_are_listed_in_few_round_trips() -> None:
    async def story(stack: MemoryStack) -> None:
        for number in range(50):
            stack.files.mkdir(ROOT + b"/e%d" % number)
            stack.old(ROOT + b"/e%d/f" % number, b"x")
        began = asyncio.get_running_loop().time()
        assert len(await browse.below(stack.service, "", None)) == 101
        assert asyncio.get_running_loop().time() - began < 5 * 0.05

    play(story, latency=0.05)


def test_a_file_that_grew_is_listed_with_its_new_size() -> None:
    async def story(stack: MemoryStack) -> None:
        prepared(stack)
        assert await stack.read(b"e/d/g.log") == b"123"
        stack.files.append(ROOT + b"/e/d/g.log", b"45")
        await asyncio.sleep(TTL)
        assert shown(await browse.listing(stack.service, "e/d"))["e/d/g.log"] == ("file", 5)

    play(story)


def test_what_may_not_be_listed_is_left_out_and_what_cannot_be_asked_for_is_an_error() -> None:
    async def story(stack: MemoryStack) -> None:
        prepared(stack)
        stack.remote.fail("scandir", AccessDenied("e/d"), ROOT + b"/e/d")
        assert "e/d/g.log" not in shown(await browse.below(stack.service, "e", None))
        await stack.restart()
        await browse.listing(stack.service, "e")
        stack.remote.go_offline()
        await asyncio.sleep(60)
        with pytest.raises(Unreachable):
            await browse.below(stack.service, "e", None)

    play(story)


def test_parts_are_slices_of_one_version() -> None:
    async def story(stack: MemoryStack) -> None:
        data = tagged(b"one", 3 * MIB)
        stack.old(ROOT + b"/f", data)
        stack.files.mkdir(ROOT + b"/d")
        got = await parts(
            stack, ("f", None, None), ("f", -5, None), ("f", 10, -10), ("f", 9, 4), ("f", MIB, 9 * MIB)
        )
        assert got == [data, data[-5:], data[10:-10], b"", data[MIB:]]
        missing, directory = await parts(stack, ("none", 0, 1), ("d", 0, 1))
        assert isinstance(missing, NoSuchPath)
        assert isinstance(directory, IsADirectoryError)

    play(story)


def test_a_file_that_is_replaced_while_it_is_read_is_read_anew() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", tagged(b"one", 16 * MIB))
        reading = asyncio.ensure_future(parts(stack, ("f", None, None)))
        await asyncio.sleep(0.25)
        stack.files.replace(ROOT + b"/f", tagged(b"two", 12 * MIB))
        (data,) = await reading
        assert data in (tagged(b"one", 16 * MIB), tagged(b"two", 12 * MIB))
        await asyncio.sleep(TTL + 3)
        assert await parts(stack, ("f", 0, 8)) == [b"two....."]

    play(story, latency=0.05, between=0.01)


def test_a_file_that_never_comes_to_rest_is_told_as_being_written() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(ROOT + b"/f.pt", bytes(MIB))

        async def write() -> None:
            while True:
                await asyncio.sleep(1)
                stack.files.write_at(ROOT + b"/f.pt", 0, b"x")

        writing = asyncio.ensure_future(write())
        (error,) = await parts(stack, ("f.pt", 0, 1))
        writing.cancel()
        assert isinstance(error, BeingWritten)

    play(story)


def test_an_open_file_gives_one_version_and_what_is_appended_to_it() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f.log", b"12345")
        reader = await browse.open_file(stack.service, "f.log")

        async def read(start: int) -> bytes:
            pieces = await stack.service.read_latest(reader, start, 100)
            return b"".join(bytes(block.view(a, b)) for block, a, b in pieces)

        assert (await read(0), await read(5)) == (b"12345", b"")
        stack.files.append(ROOT + b"/f.log", b"67")
        await asyncio.sleep(TTL)
        assert await read(5) == b"67"
        stack.files.replace(ROOT + b"/f.log", b"other")
        await asyncio.sleep(TTL)
        with pytest.raises(StaleVersion):
            await read(0)
        reader.close()

    play(story)
