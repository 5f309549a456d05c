"""A pin is the path's: it outlives what is there, and `unpin` finds it whatever the server has now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.blocks import ledger_of, prune
from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, tagged
from vfs.base.errors import NoSuchExperiment, NoSuchPath
from vfs.cache import upkeep
from vfs.commands import prefetch as fetching
from vfs.commands.cache_usage import holdings
from vfs.commands.prefetch import prefetch
from vfs.files import xattrs

FILE = ROOT + b"/exp/ck.pt"
BIG = 3 << 20


def over(stack: MemoryStack) -> Any:
    """What the commands take for a stack."""
    return SimpleNamespace(
        tree=stack.tree, fetcher=stack.fetcher, cache=stack.cache, settings=SimpleNamespace(timeout=30.0)
    )


async def pin(stack: MemoryStack, *paths: str) -> None:
    async for report in prefetch(over(stack), paths, pin=True):
        last = report
    assert last["failed"] == []
    assert last["lacking"] == 0


async def shown(stack: MemoryStack) -> bytes:
    """What `user.artisync.pinned` of the file is."""
    return await xattrs.value(stack.tree, stack.fetcher, await stack.node(b"exp/ck.pt"), xattrs.PINNED)


async def unpin(stack: MemoryStack, paths: list[str]) -> object:
    return await anext(fetching.unpin(over(stack), paths))


async def pinned_bytes(stack: MemoryStack) -> int:
    """What `cache info` says is pinned, and `cache prune` therefore leaves."""
    disk = stack.cache.disk
    assert disk is not None
    assert await stack.cache.flush()
    told = sum(holding.pinned for holding in await asyncio.to_thread(holdings, ledger_of(disk)))
    await asyncio.to_thread(prune, disk, 0)
    assert sum((await asyncio.to_thread(ledger_of(disk).records.sizes)).values()) == told
    return told


def grow(stack: MemoryStack) -> None:
    stack.files.append(FILE, b"more")


def replace(stack: MemoryStack) -> None:
    stack.files.replace(FILE, tagged(b"new", BIG))
    stack.files.utime(FILE, int(stack.files.clock()) - 1800)


def come_again(stack: MemoryStack) -> None:
    stack.files.remove(FILE)
    stack.old(FILE, tagged(b"again", BIG + 8))


async def _after(stack: MemoryStack, way: str) -> None:
    if way != "same mount":
        await stack.restart()
    stack.tree.lineages.host = "two" if way == "another host" else "one"
    await asyncio.sleep(TTL + 1)


@pytest.mark.parametrize(
    ("change", "way", "read"),
    [
        (grow, "same mount", True),
        (grow, "remount", False),
        (grow, "another host", True),
        (replace, "same mount", False),
        (replace, "remount", True),
        (replace, "another host", True),
        (come_again, "same mount", True),
        (come_again, "another host", False),
    ],
)
def test_a_pin_outlives_what_is_there(
    tmp_path: Path, change: Callable[[MemoryStack], None], way: str, read: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.lineages.host = "one"
        stack.files.mkdir(ROOT + b"/exp")
        stack.old(FILE, tagged(b"old", BIG))
        await pin(stack, "exp")
        assert await shown(stack) == b"yes"
        assert await pinned_bytes(stack) == BIG
        change(stack)
        await _after(stack, way)
        if read:
            assert await stack.read(b"exp/ck.pt") == bytes(stack.files.find(FILE).data)
            await asyncio.sleep(TTL + 1)
            await stack.tree.versions.ask(await stack.node(b"exp/ck.pt"), None)
            await asyncio.sleep(1)
            pages = -(-len(stack.files.find(FILE).data) // 4096)
            assert await pinned_bytes(stack) == pages * 4096
        assert await shown(stack) == b"yes"
        assert await unpin(stack, ["exp"]) == {"unpinned": 1}
        assert await shown(stack) == b"no"
        assert await pinned_bytes(stack) == 0
        assert await unpin(stack, ["exp"]) == {"unpinned": 0}
        assert await stack.cache.records("p") == []

    play(story, place=tmp_path)


@pytest.mark.parametrize("way", ["same mount", "another host"])
@pytest.mark.parametrize("gone", [FILE, ROOT + b"/exp"], ids=["file", "experiment"])
def test_a_pin_of_what_was_removed_is_found_by_its_name(tmp_path: Path, gone: bytes, way: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.lineages.host = "one"
        stack.files.mkdir(ROOT + b"/exp")
        stack.old(FILE, tagged(b"old", BIG))
        await pin(stack, "exp/ck.pt")
        stack.files.rmtree(gone)
        await _after(stack, way)
        with pytest.raises((NoSuchPath, NoSuchExperiment)):
            await unpin(stack, ["exp/ck"])
        assert await unpin(stack, ["exp"]) == {"unpinned": 1}
        with pytest.raises((NoSuchPath, NoSuchExperiment)):
            await unpin(stack, ["exp/ck.pt"])
        assert await pinned_bytes(stack) == 0

    play(story, place=tmp_path)


def test_what_is_pinned_is_never_evicted_while_other_pins_go(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        stack.files.mkdir(ROOT + b"/exp-2")
        stack.old(FILE, tagged(b"old", BIG))
        stack.old(ROOT + b"/exp-2/ck.pt", tagged(b"two", BIG))
        await pin(stack, "exp", "exp-2")
        assert await pinned_bytes(stack) == 2 * BIG
        assert await unpin(stack, ["exp-2/ck.pt"]) == {"unpinned": 1}
        assert await pinned_bytes(stack) == BIG
        assert await unpin(stack, [""]) == {"unpinned": 1}
        assert await pinned_bytes(stack) == 0

    play(story, place=tmp_path)


def test_what_another_process_cleared_is_kept_again(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        stack.old(FILE, tagged(b"old", BIG))
        await pin(stack, "exp")
        assert await pinned_bytes(stack) == BIG
        disk = stack.cache.disk

        def clear() -> None:
            with upkeep.looked_after(disk.directory) as ledger:
                upkeep.clear(ledger, in_use=True)

        await asyncio.to_thread(clear)
        await pin(stack, "exp")  # all of it is in memory
        assert await pinned_bytes(stack) == BIG

    play(story, place=tmp_path)
