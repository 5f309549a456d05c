"""The directories that a program used last are asked for together, and kept fresh for a while."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read
from vfs.base.errors import NoSuchPath
from vfs.base.loop_time import loop_time
from vfs.files.ahead.used import FAR, KEPT_SECONDS
from vfs.files.node import Node

RTT = 0.3


async def make(stack: MemoryStack) -> None:
    stack.files.mkdir(ROOT + b"/e")
    stack.files.mkdir(ROOT + b"/e/checkpoints")
    stack.old(ROOT + b"/e/checkpoints/last.pt", b"x" * 1000)
    await stack.tree.start()


async def come_to(stack: MemoryStack, path: bytes) -> Node:
    """What the kernel asks for on its way to a path, all its own answers being past their time."""
    service, node = stack.service, stack.service.root
    if service.attributes_now(node) is None:
        await service.attributes(node)
    for name in path.split(b"/"):
        node = service.lookup_now(node, name) or await service.lookup(node, name)
    return node


async def head_seconds(stack: MemoryStack) -> float:
    began = loop_time()
    reader = await stack.service.open(await come_to(stack, b"e/checkpoints/last.pt"))
    assert await read(reader, 0, 100)
    reader.close()
    return loop_time() - began


@pytest.mark.parametrize(("pause", "round_trips"), [(TTL + 1, 2), (KEPT_SECONDS - 1, 2), (60, 3)])
def test_a_program_that_comes_back_waits_for_directories_once_at_most(pause: float, round_trips: int) -> None:
    async def story(stack: MemoryStack) -> None:
        await make(stack)
        directory = await come_to(stack, b"e/checkpoints")
        if stack.service.listing_now(directory) is None:
            await stack.service.listing(directory)
        await asyncio.sleep(pause)
        assert await head_seconds(stack) == pytest.approx(
            round_trips * RTT, abs=0.01
        )  # OPEN and READ are two

    play(story, latency=RTT)


@pytest.mark.parametrize("pause", [0.4, 1.1, 1.9])
def test_that_a_directory_is_gone_is_seen_within_the_ttl(pause: float) -> None:
    async def story(stack: MemoryStack) -> None:
        await make(stack)
        await come_to(stack, b"e/checkpoints/last.pt")
        await asyncio.sleep(pause)
        stack.files.rename(ROOT + b"/e", ROOT + b"/f")
        await asyncio.sleep(TTL)
        with pytest.raises(NoSuchPath):
            await come_to(stack, b"e/checkpoints")

    play(story, latency=RTT)


def test_what_is_asked_for_ends_soon_after_the_last_use() -> None:
    async def story(stack: MemoryStack) -> None:
        await make(stack)
        await come_to(stack, b"e/checkpoints/last.pt")
        await asyncio.sleep(KEPT_SECONDS + TTL)
        told = stack.remote.requests.total()
        await asyncio.sleep(600)
        assert stack.remote.requests.total() == told < 60

    play(story, latency=RTT)


@pytest.mark.parametrize("ttl", [0.0, RTT])
def test_nothing_is_asked_for_that_is_too_old_when_it_comes(ttl: float) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.names.ttl = ttl
        await make(stack)
        await come_to(stack, b"e/checkpoints/last.pt")
        before = stack.remote.requests.total()
        await asyncio.sleep(KEPT_SECONDS)
        assert stack.remote.requests.total() == before

    play(story, latency=RTT)


@pytest.mark.parametrize(("latency", "metered"), [(FAR / 2, False), (RTT, True)])
def test_nothing_is_asked_for_where_it_saves_little_or_bytes_cost_money(
    latency: float, metered: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        await make(stack)
        stack.remote.metered = metered
        await come_to(stack, b"e/checkpoints")
        await asyncio.sleep(1)
        told = stack.remote.requests.total()
        await asyncio.sleep(60)
        assert stack.remote.requests.total() == told

    play(story, latency=latency)
