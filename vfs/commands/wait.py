"""Waiting for an experiment: a sync takes minutes to appear, and then goes on for a while. On the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict

from vfs.base.each import each
from vfs.base.errors import ArtisyncError, LinkError, NeverQuiet, Unreachable, WaitedTooLong
from vfs.base.file_version import Version
from vfs.base.units import count, size
from vfs.commands.reports import Report, Tell
from vfs.commands.reports import reports as told
from vfs.files import experiments, xattrs
from vfs.files.node import Kind, Node
from vfs.files.requests import fresh_only
from vfs.stack import Stack

SILENT = "the server does not answer; waiting for it"
POLL = 1.0
"""Seconds between two looks; the listings behind them are as old as the TTL allows."""
LOOKED_AT_ONCE = 64
"""The most checkpoints whose completeness is checked concurrently."""


async def wait(
    stack: Stack, name: str, settle: float, *, complete: bool, say: Callable[[str, type[ArtisyncError]], None]
) -> experiments.Summary:
    """Return what is in the experiment once it exists and nothing in it has changed for `settle` seconds.

    With `complete`, also every checkpoint must be complete as far as its format tells. `say` is told what is seen, and
    which error it would be if the wait ended now. A server that does not answer is waited for. Cancel it to bound the
    wait.
    """
    loop = asyncio.get_running_loop()
    seen: dict[bytes, Version] | None = None
    since = loop.time()
    kind: type[ArtisyncError]
    while True:
        text, kind = SILENT, Unreachable
        try:
            # the cache cannot tell which files there are, nor that they have stopped changing
            with fresh_only():
                known = await experiments.experiments(stack.tree)
                top = known.get(name.strip("/"))
                if top is None:
                    seen = None
                    like = experiments.nearest(name, known)
                    others = ", ".join(like) or ("1 other" if len(known) == 1 else f"{len(known)} others")
                    text, kind = f"{name} is not there yet; on the server: {others}", WaitedTooLong
                else:
                    kind = NeverQuiet
                    nodes, now = [], {}
                    async for node in experiments.walk(stack.tree, top):
                        if node.kind is Kind.FILE:
                            nodes.append(node)
                            now[node.path] = node.latest
                    if now != seen:
                        seen, since = now, loop.time()
                    quiet = loop.time() - since
                    total = sum(version.size for version in now.values())
                    what = f"{name}: {count(len(now), 'file')}, {size(total)}"
                    if not now:
                        text = f"{name} is empty"
                    elif quiet < settle:
                        text = f"{what}; waiting for {settle:g} s without changes"
                    elif complete and (unfinished := await _unfinished(stack, nodes)):
                        text = f"{what}; incomplete: {', '.join(unfinished)}"
                    else:
                        return await experiments.summary(stack.tree, name, top)
        except (LinkError, TimeoutError):
            since = loop.time()
            text, kind = SILENT, Unreachable
        if not stack.remote.link.online:
            since = loop.time()
            text, kind = SILENT, Unreachable
        say(text, kind)
        await asyncio.sleep(POLL)


def reports(
    stack: Stack, experiment: str, settle: float, *, complete: bool, until: float | None
) -> AsyncIterator[Report]:
    """As `wait` until this machine's monotonic clock shows `until` (None: for ever), in plain types: at each look the "text"
    and the "kind" of error, at the end "found", unless the time was too short."""

    async def work(tell: Tell) -> None:
        def say(text: str, kind: type[ArtisyncError]) -> None:
            tell({"text": text, "kind": kind.__name__})

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                found = await wait(stack, experiment, settle, complete=complete, say=say)
                tell({"found": asdict(found)})

    return told(work)


async def _unfinished(stack: Stack, nodes: list[Node]) -> list[str]:
    """The checkpoints that are cut short."""
    checkpoints = [node for node in nodes if node.name.endswith(experiments.CHECKPOINTS)]

    def complete(node: Node) -> Awaitable[bytes]:
        return xattrs.value(stack.tree, stack.fetcher, node, xattrs.COMPLETE)

    values = await each(checkpoints, complete, LOOKED_AT_ONCE)
    return [os.fsdecode(node.name) for node, value in zip(checkpoints, values, strict=True) if value == b"no"]
