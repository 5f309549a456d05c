"""`df`: the server's figures, or what was last known of them; never zeros because nobody could be asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.lab.memory_stack import TIMEOUT, TTL, MemoryStack, play
from vfs.base.errors import Unreachable
from vfs.files.service import FS_SECONDS, Files
from vfs.frontends.fuse import operations
from vfs.frontends.fuse.operations import Operations


def test_the_room_is_the_servers_or_what_was_last_known_of_it_and_never_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    monkeypatch.setattr(operations.reply, "statfs", lambda req, stats: told.append(stats.f_blocks))

    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        shown = Operations(stack.service)
        request: Any = None
        stack.remote.go_silent()
        other = asyncio.ensure_future(stack.remote.lstat(b"/r"))
        await asyncio.sleep(0.5)
        loop.call_later(1, stack.remote.go_on)
        await shown._statfs(request)  # nothing is known: it waits
        await other
        await asyncio.sleep(FS_SECONDS + TTL)
        stack.remote.go_offline()
        began = loop.time()
        await shown._statfs(request)
        assert loop.time() == began
        assert told == [1000, 1000]
        unknown = Operations(Files(stack.tree, stack.fetcher, TIMEOUT))
        with pytest.raises(Unreachable):
            await unknown._statfs(request)

    play(story, latency=0.01)
