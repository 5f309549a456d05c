"""Names that nobody needs are forgotten beyond a number, and come back as what they were."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play
from vfs.base import collector
from vfs.base.collector import short_rounds
from vfs.files import forgetting
from vfs.files.node import Node

MOST = 500
DIRECTORIES, EACH = 40, 100


@pytest.fixture(autouse=True)
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MOST_NAMES", MOST)


def make(stack: MemoryStack) -> None:
    for i in range(DIRECTORIES):
        stack.files.mkdir(ROOT + b"/d%02d" % i)
        for j in range(EACH):
            stack.old(ROOT + b"/d%02d/f%03d" % (i, j), b"x")


async def see(stack: MemoryStack) -> None:
    """List everything, as a program does that walks slowly; the kernel holds what it was shown, and gives it back."""
    for i in range(DIRECTORIES):
        directory = await stack.node(b"d%02d" % i)
        shown = await stack.tree.listing(directory)
        for node in shown:
            stack.tree.names.hold(node)
        await asyncio.sleep(TTL)
        for node in shown:
            stack.tree.names.forget(node.id, 1)


def alive() -> set[int]:
    """The nodes that are in memory."""
    gc.collect()
    return {each.id for each in gc.get_objects() if type(each) is Node}


def counted(node: Node) -> int:
    """Names below a node."""
    return sum(1 + counted(child) for child in node.children.values())


def test_however_many_names_were_seen_only_so_many_are_kept() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await see(stack)
        await asyncio.sleep(10)
        await stack.node(b"d00/f000")  # another name is seen
        await asyncio.sleep(1)
        assert stack.tree.forgetting.count == counted(stack.tree.root)
        assert stack.tree.forgetting.count <= MOST + EACH
        assert len(alive()) <= MOST + 2 * EACH
        assert len(stack.tree.names._held) == 1

    play(story)


def test_what_was_forgotten_comes_back_with_its_inode_number_and_its_bytes(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        node = await stack.node(b"d00/f000")
        assert await stack.read(b"d00/f000") == b"x"
        number, ino, lineage = node.id, node.ino, node.content.lineage  # type: ignore[union-attr]
        del node
        await asyncio.sleep(60)  # the server's handle is closed
        await see(stack)
        await asyncio.sleep(10)
        assert number not in alive()
        stack.remote.read_ranges.clear()
        assert await stack.read(b"d00/f000") == b"x"
        again = await stack.node(b"d00/f000")
        assert (again.ino, again.content.lineage) == (ino, lineage)  # type: ignore[union-attr]
        assert not stack.remote.read_ranges

    play(story, place=tmp_path)


def test_what_somebody_holds_is_not_forgotten() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        open_file = await stack.open(b"d00/f000")
        in_kernel = await stack.node(b"d00/f001")
        stack.tree.names.hold(in_kernel)
        in_hand = await stack.node(b"d00/f002")
        held = {name: (await stack.node(b"d00/" + name)).id for name in (b"f000", b"f001", b"f002")}
        free = (await stack.node(b"d00/f003")).id
        await see(stack)
        await asyncio.sleep(10)
        directory = stack.tree.root.children[b"d00"]
        assert {name: directory.children[name].id for name in held} == held
        assert free not in alive()
        assert await stack.node(b"d00/f002") is in_hand
        assert await stack.node(b"d00/f001") is in_kernel
        open_file.close()

    play(story)


def test_what_was_forgotten_is_shown_offline() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await see(stack)
        await asyncio.sleep(10)
        assert not (await stack.node(b"d01")).children
        stack.remote.go_offline()
        assert len(await stack.tree.listing(await stack.node(b"d01"))) == EACH
        assert (await stack.node(b"d02/f007")).version.size == 1

    play(story)


def test_what_was_removed_is_freed_without_a_collection() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for i in range(3):
            await stack.tree.listing(await stack.node(b"d%02d" % i))
        before = alive()
        gc.disable()
        try:
            for i in range(3):
                stack.tree.names.remove(stack.tree.root.children[b"d%02d" % i])
            await asyncio.sleep(TTL)
            left = sum(1 for each in gc.get_objects() if type(each) is Node)
        finally:
            gc.enable()
        assert left <= len(before) - 3 * EACH

    play(story)


def test_what_survived_a_long_collection_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_rounds():
        before = gc.get_freeze_count()
        many = [[i] for i in range(1_000)]
        monkeypatch.setattr(collector, "LONG", 0.0)
        gc.collect()
        assert gc.get_freeze_count() >= before + len(many) // 2
        monkeypatch.setattr(collector, "LONG", 10.0)
        before = gc.get_freeze_count()
        more = [[i] for i in range(1_000)]
        gc.collect()
        assert gc.get_freeze_count() < before + len(more) // 2


def test_what_was_removed_on_the_server_does_not_count() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for _ in range(3):
            for i in range(3):
                await stack.tree.listing(await stack.node(b"d%02d" % i))
            for i in range(3):
                stack.tree.names.remove(stack.tree.root.children[b"d%02d" % i])
            assert stack.tree.forgetting.count == counted(stack.tree.root)
            await asyncio.sleep(TTL * 2)

    play(story)
