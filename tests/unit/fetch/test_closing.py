"""A stack that closes sends nothing more, and leaves nothing under way."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read, tagged
from vfs.base.errors import ArtisyncError

FILE = ROOT + b"/ck.pt"
SMALL = ROOT + b"/small.pt"
MIB = 1 << 20


async def _close(stack: MemoryStack) -> None:
    """Close it; nothing may be sent meanwhile, and no task be left but the test's."""
    stack.remote.requests.clear()
    await stack.tree.aclose()
    await stack.fetcher.aclose()
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left
    assert not stack.remote.requests
    await asyncio.sleep(60)
    assert not stack.remote.requests
    assert stack.remote.open_handles == 0


def test_what_waits_its_turn_is_not_sent_while_the_fetcher_closes() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, tagged(b"old", 40 * MIB))
        reader = await stack.open(b"ck.pt")
        stack.remote.window = 2 * MIB
        stack.fetcher.ahead("nobody", reader.content, [(0, 20 * MIB)])
        waiting = asyncio.ensure_future(stack.fetcher.need(reader.content, 20 * MIB, 40 * MIB))
        unsent = asyncio.ensure_future(stack.fetcher.need(reader.content, 38 * MIB, 40 * MIB))
        await asyncio.sleep(0.45)
        assert stack.remote.requests["read"] > 1
        waiter = asyncio.ensure_future(asyncio.wait({waiting, unsent}))
        stack.remote.requests.clear()
        await stack.fetcher.aclose()
        await waiter
        for one in (waiting, unsent):
            with pytest.raises(ArtisyncError, match="closed"):
                one.result()
        await asyncio.sleep(60)
        assert not stack.remote.requests
        with pytest.raises(ArtisyncError, match="closed"):
            await stack.fetcher.need(reader.content, 30 * MIB, 31 * MIB)
        stack.fetcher.ahead("nobody", reader.content, [(30 * MIB, 40 * MIB)])
        await asyncio.sleep(60)
        assert not stack.remote.requests

    play(story, latency=0.2)


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.11])
def test_what_the_versions_ask_ends_with_the_tree(wait: float) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.write(SMALL, b"old")
        stack.old(FILE, tagged(b"old", 3 * MIB))
        await stack.tree.start()
        await stack.read(b"small.pt")
        reader = await stack.open(b"ck.pt")
        await read(reader, 0, 8)
        await asyncio.sleep(TTL + 20)
        stack.files.append(FILE, b"more")
        await stack.tree.listing(
            stack.tree.root
        )  # the one is compared since it is settled, the other since it grew
        asking = asyncio.ensure_future(stack.tree.refresh(reader.node))
        await asyncio.sleep(wait)
        await _close(stack)
        assert asking.done()

    play(story, latency=0.2)
