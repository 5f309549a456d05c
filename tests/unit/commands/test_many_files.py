"""Commands over very many files: how many they begin at a time, and whether others have their turn meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.lab.pulling import pull
from tests.unit.commands.test_pins import pin
from vfs.base.slices import SLICE
from vfs.commands import prefetch
from vfs.files.experiments import summary, walk
from vfs.files.read_whole import SMALL, each_file

pytestmark = pytest.mark.usefixtures("home")


def make_files(stack: MemoryStack, count: int) -> None:
    stack.files.mkdir(ROOT + b"/exp")
    for number in range(count):
        stack.old(ROOT + b"/exp/%d" % number, b"small")


async def most_tasks(work: Coroutine[Any, Any, object]) -> int:
    """How many tasks there were at a time while `work` was done."""
    most, task = 0, asyncio.ensure_future(work)
    while not task.done():
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0.001)
    await task
    return most


async def longest_turn(work: Awaitable[object], done: Callable[[], int]) -> int:
    """How much of `work` was done at most before others had their turn."""
    turns, task = [done()], asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(0)
        turns.append(done())
    await task
    return max(after - before for before, after in pairwise(turns))


def test_files_are_begun_some_at_a_time_however_many_there_are(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 700)
        exp = await stack.node(b"exp")
        assert await most_tasks(summary(stack.tree, "exp", exp)) < 450
        assert await most_tasks(pin(stack, "exp")) < 450
        (tmp_path / "out").mkdir()
        assert await most_tasks(pull(stack, tmp_path / "out")) < 450

    play(story, latency=0.02, place=tmp_path / "cache")


def test_large_files_are_read_beside_small_ones() -> None:
    async def main() -> None:
        begun: Counter[int] = Counter()
        gate = asyncio.Event()

        async def work(size: int) -> None:
            begun[size] += 1
            await gate.wait()

        task = asyncio.ensure_future(each_file([1] * 500 + [SMALL + 1] * 5, int, work))
        while sum(begun.values()) < 131:
            await asyncio.sleep(0)
        assert begun == {1: 128, SMALL + 1: 3}
        gate.set()
        await task
        assert begun == {1: 500, SMALL + 1: 5}

    asyncio.run(main())


def test_others_have_their_turn_within_a_walk() -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 1000)
        found = 0

        async def look() -> None:
            nonlocal found
            async for _ in walk(stack.tree, stack.tree.root):
                found += 1

        assert await longest_turn(look(), lambda: found) <= 256

    play(story)


def test_others_have_their_turn_within_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stack: MemoryStack) -> None:
        make_files(stack, 2000)
        settings = SimpleNamespace(metered=True)
        metered: Any = SimpleNamespace(settings=settings, tree=stack.tree, cache=stack.cache)
        for node in await prefetch._files(metered, ["exp"]):
            await stack.tree.lineages.of(node)
        looked = 0

        def cached_bytes(lineage: bytes) -> int:
            nonlocal looked
            looked += 1
            return 1

        monkeypatch.setattr(stack.cache, "cached_bytes", cached_bytes)
        work = anext(prefetch.estimate(metered, ["exp"]))
        assert await longest_turn(work, lambda: looked) <= SLICE
        assert looked == 2000

    play(story)
