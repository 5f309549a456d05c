"""Listing ahead of a program that walks, and only of one."""

from __future__ import annotations

import asyncio

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.errors import AccessDenied
from vfs.walk import PATTERN_SECONDS

RUNS = 20


def make(stack: MemoryStack) -> None:
    """Experiments with two directories each, 61 directories in all."""
    for run in range(RUNS):
        experiment = b"%s/exp-%02d" % (ROOT, run)
        stack.files.mkdir(experiment)
        for name in (b"checkpoints", b"tensorboard"):
            stack.files.mkdir(experiment + b"/" + name)
            stack.old(experiment + b"/" + name + b"/f", b"x")


async def look(stack: MemoryStack, *paths: bytes) -> None:
    """List directories as a program does, and let half a second go by."""
    for path in paths:
        node = await stack.node(path)
        stack.tree.walk.note(node)
        await stack.tree.refresh_listing(node)
    await asyncio.sleep(0.5)


def listed(stack: MemoryStack) -> int:
    """Directories that were listed on the server."""
    return stack.remote.requests["scandir"]


def test_a_look_at_one_directory_lists_no_other() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await look(stack, b"", b"exp-01", b"exp-01", b"exp-01/checkpoints")
        assert listed(stack) == 3

    play(story)


def test_two_children_of_one_directory_have_all_below_it_listed_at_once() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await look(stack, b"", b"exp-00", b"exp-01")
        assert listed(stack) == 1 + 3 * RUNS
        stack.remote.requests.clear()
        for run in range(RUNS):
            assert stack.tree.peek(stack.tree.root, b"exp-%02d" % run) is not None
            await stack.tree.listing(await stack.node(b"exp-%02d/checkpoints" % run))
        assert not stack.remote.requests

    play(story, latency=0.05)


def test_children_opened_long_apart_are_no_walk() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await look(stack, b"", b"exp-00")
        await asyncio.sleep(PATTERN_SECONDS)
        await look(stack, b"exp-01")
        assert listed(stack) == 3

    play(story)


def test_a_directory_that_cannot_be_listed_does_not_end_the_crawl() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        stack.remote.fail("scandir", AccessDenied("no"), ROOT + b"/exp-07", times=99)
        await look(stack, b"", b"exp-00", b"exp-01")
        assert listed(stack) == 1 + 3 * RUNS - 2
        assert (await stack.node(b"exp-19/checkpoints")).children

    play(story, latency=0.05)


def test_nothing_is_listed_ahead_over_a_dead_link() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await look(stack, b"", b"exp-00")
        stack.remote.go_offline()
        stack.tree.walk.note(await stack.node(b"exp-01"))
        await asyncio.sleep(10)
        stack.remote.go_online()
        await asyncio.sleep(10)
        assert listed(stack) == 2

    play(story)


def test_what_is_shown_in_place_of_a_link_is_not_crawled() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        stack.files.mkdir(b"/out")
        stack.files.mkdir(b"/out/deep")
        stack.files.symlink(ROOT + b"/link", b"/out")
        await look(stack, b"", b"exp-00", b"exp-01")
        assert (await stack.node(b"link")).children == {}

    play(story, latency=0.05)
