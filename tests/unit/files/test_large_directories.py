"""Very many names in one directory: taken in, kept and shown by slices, so that the loop is never held for long.

The watch in `tests/lab/loop_watch.py` fails each of these when one callback takes more than 100 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play
from vfs.base.errors import NoSuchPath, Unreachable
from vfs.files.listings import SYMLINKS_AT_ONCE
from vfs.files.node import Node
from vfs.files.records import listing_key

pytestmark = pytest.mark.one_python

FILES, LINKS = 30_000, 3_000
D = ROOT + b"/d"


def make_files(stack: MemoryStack, count: int = FILES) -> None:
    stack.files.mkdir(D)
    for i in range(count):
        stack.old(D + b"/f%06d" % i, b"")


def make_links(stack: MemoryStack) -> None:
    stack.files.mkdir(D)
    stack.files.mkdir(ROOT + b"/t")
    for i in range(LINKS):
        stack.files.symlink(D + b"/l%06d" % i, ROOT + b"/t" if i % 2 else b"nowhere")


async def directory(stack: MemoryStack) -> Node:
    return await stack.node(b"d")


@pytest.mark.parametrize(("make", "count"), [(make_files, FILES), (make_links, LINKS)])
def test_a_large_directory_does_not_hold_the_loop(
    make: Callable[[MemoryStack], None], count: int, tmp_path: Path
) -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for _ in range(2):
            assert len(await stack.tree.listing(await directory(stack))) == count
            await asyncio.sleep(TTL * 2)
        stack.files.rename(D, ROOT + b"/e")
        with pytest.raises(NoSuchPath):
            await stack.node(b"d")
        await asyncio.sleep(TTL)

    play(story, place=tmp_path)


def test_what_is_read_of_a_large_listing_offline_does_not_hold_the_loop(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack)
        await stack.tree.listing(await directory(stack))
        await stack.restart(offline=True)
        node = await directory(stack)
        await asyncio.ensure_future(stack.tree.refresh_listing(node))
        assert len(node.children) == FILES

    play(story, place=tmp_path)


def test_links_of_a_directory_are_asked_about_so_many_at_a_time() -> None:
    async def story(stack: MemoryStack) -> None:
        make_links(stack)
        most = 0
        asking = asyncio.ensure_future(stack.tree.listing(await directory(stack)))
        while not asking.done():
            most = max(most, len(stack.remote.link.waiting))
            await asyncio.sleep(0.01)
        assert SYMLINKS_AT_ONCE <= most <= 3 * SYMLINKS_AT_ONCE
        assert len(asking.result()) == LINKS

    play(story, latency=0.05)


def test_a_listing_that_fails_among_its_links_asks_about_no_more_of_them() -> None:
    async def story(stack: MemoryStack) -> None:
        make_links(stack)
        node = await directory(stack)
        stack.remote.fail("readlink", Unreachable("gone"))  # type: ignore[arg-type]
        with pytest.raises(Unreachable):
            await stack.tree.listing(node)
        await asyncio.sleep(10)
        assert stack.remote.requests["realpath"] <= 2 * SYMLINKS_AT_ONCE
        assert not stack.tree.names.listed(node)

    play(story, latency=0.05)


def test_while_a_listing_is_taken_in_it_does_not_count_and_what_comes_meanwhile_stays() -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 5000)
        node = await directory(stack)
        await asyncio.sleep(TTL)
        asking = asyncio.ensure_future(stack.tree.refresh_listing(node))
        while len(node.children) < 1000:
            await asyncio.sleep(0)
        assert len(node.children) < 5000
        assert not stack.tree.names.listed(node)
        asyncio.get_running_loop().advance(0.001)  # type: ignore[attr-defined]
        stack.files.write(D + b"/new", b"x")
        assert (await stack.tree.lookup(node, b"new")).name == b"new"
        await asking
        assert stack.tree.names.listed(node)
        assert len(node.children) == 5001

    play(story)


def test_a_directory_that_goes_while_its_listing_is_taken_in_gets_no_more_names() -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 5000)
        node = await directory(stack)
        await asyncio.sleep(TTL)
        asking = asyncio.ensure_future(stack.tree.refresh_listing(node))
        while len(node.children) < 1000:
            await asyncio.sleep(0)
        stack.tree.names.remove(node)
        await asking
        assert len(node.children) < 5000
        assert all(child.stale for child in node.children.values())

    play(story)


def test_an_unchanged_listing_is_not_kept_again_and_a_changed_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 10)
        node = await directory(stack)
        kept: list[str] = []
        keep = stack.cache.disk.set_record

        def set_record(key: str, value: bytes | None) -> None:
            kept.append(key)
            keep(key, value)

        monkeypatch.setattr(stack.cache.disk, "set_record", set_record)

        async def look() -> int:
            kept.clear()
            await asyncio.sleep(TTL)
            await stack.tree.refresh_listing(node)
            return kept.count(listing_key("test", b"d"))

        assert [await look(), await look()] == [1, 0]
        stack.files.append(D + b"/f000001", b"more")
        assert [await look(), await look()] == [1, 0]
        stack.files.remove(D + b"/f000002")
        assert [await look(), await look()] == [1, 0]
        stack.files.write(D + b"/new", b"x")
        await asyncio.sleep(TTL)
        await stack.tree.lookup(node, b"new")  # it is known before the listing tells
        assert [await look(), await look()] == [1, 0]

    play(story)
