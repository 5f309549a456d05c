"""Waiting for an experiment: only answers of the server say that it is there, and quiet."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play
from vfs.base.errors import ArtisyncError, RootUnusable, Unreachable
from vfs.commands.wait import wait
from vfs.files import experiments
from vfs.files.node import Node
from vfs.stack import Stack

SETTLE = 4.0


async def _wait(stack: MemoryStack) -> int:
    """How many files there are in the end."""
    looks = wait(cast(Stack, stack), "exp", SETTLE, complete=False, until=None)
    *_, last = [look async for look in looks]
    return int(last["found"]["files"])


def test_an_experiment_is_not_quiet_because_the_server_is() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.files.mkdir(ROOT + b"/exp")
        stack.old(ROOT + b"/exp/f", b"12345")
        waiting = asyncio.ensure_future(_wait(stack))
        await asyncio.sleep(1.5)  # what it has seen is fresh just now
        stack.remote.go_silent()
        other = asyncio.ensure_future(stack.remote.lstat(ROOT))
        stack.old(ROOT + b"/exp/g", b"12345")
        await asyncio.sleep(10 * SETTLE)
        assert not waiting.done()
        stack.remote.go_on()
        began = loop.time()
        assert await waiting == 2
        assert loop.time() - began >= SETTLE
        await other

    play(story, latency=0.01)


def test_a_directory_that_cannot_be_asked_for_is_not_left_out_silently() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        stack.files.mkdir(ROOT + b"/exp/sub")
        top = await stack.node(b"exp")
        await stack.tree.listing(stack.tree.root)
        await stack.tree.listing(top)
        await asyncio.sleep(2 * TTL)
        stack.remote.go_offline()
        with pytest.raises(Unreachable):
            [node async for node in experiments.walk(stack.tree, top)]
        unlisted: list[tuple[Node, ArtisyncError]] = []
        found = [node.name async for node in experiments.walk(stack.tree, top, unlisted)]
        assert found == [b"sub"]
        assert [node.name for node, _ in unlisted] == [b"sub"]

    play(story, latency=0.01)


def test_a_root_that_is_gone_is_waited_for_and_told_by_its_name() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        stack.old(ROOT + b"/exp/f", b"12345")
        await stack.tree.listing(stack.tree.root)
        stack.files.rename(ROOT, b"/away")
        await asyncio.sleep(2 * TTL)
        with pytest.raises(RootUnusable, match="there is no /r on the server"):
            await experiments.find_path(stack.tree, "exp")
        waiting = asyncio.ensure_future(_wait(stack))
        await asyncio.sleep(2 * SETTLE)
        assert not waiting.done()
        stack.files.rename(b"/away", ROOT)
        assert await waiting == 1

    play(story, latency=0.01)
