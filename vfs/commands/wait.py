"""Waiting for an experiment: a sync takes minutes to appear, and then goes on for a while. On the event loop's thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import asdict

from vfs.base.each import each
from vfs.base.errors import ArtisyncError, LinkError, NeverQuiet, RootUnusable, Unreachable, WaitedTooLong
from vfs.base.file_version import Version
from vfs.base.units import count, size
from vfs.commands.reports import Report
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
    stack: Stack, experiment: str, settle: float, *, complete: bool, until: float | None
) -> AsyncGenerator[Report]:
    """Look until the experiment exists and nothing in it has changed for `settle` seconds, or this machine's monotonic clock
    shows `until` (None: for ever). Yields after each look the "text" and the "kind" of error that it would be if the wait ended
    now, at the end "found", what is in the experiment.

    With `complete`, also every checkpoint must be complete as far as its format tells. A server that does not answer is
    waited for.
    """
    loop = asyncio.get_running_loop()
    seen: dict[bytes, Version] | None = None
    since = loop.time()

    async def look() -> tuple[str, type[ArtisyncError], experiments.Summary | None]:
        nonlocal seen, since
        known = await experiments.experiments(stack.tree)
        top = known.get(experiment)
        if top is None:
            seen = None
            return _absent(experiment, known), WaitedTooLong, None
        nodes = [node async for node in experiments.walk(stack.tree, top) if node.kind is Kind.FILE]
        now = {node.path: node.latest for node in nodes}
        if now != seen:
            seen, since = now, loop.time()
        what = f"{experiment}: {count(len(now), 'file')}, {size(sum(one.size for one in now.values()))}"
        if not now:
            return f"{experiment} is empty", NeverQuiet, None
        if loop.time() - since < settle:
            return f"{what}; waiting for {settle:g} s without changes", NeverQuiet, None
        if complete and (unfinished := await _unfinished(stack, nodes)):
            return f"{what}; incomplete: {', '.join(unfinished)}", NeverQuiet, None
        return what, NeverQuiet, await experiments.summary(stack.tree, experiment, top)

    while until is None or loop.time() < until:
        try:
            # the cache cannot tell which files there are, nor that they have stopped changing
            with fresh_only():
                async with asyncio.timeout_at(until) as limit:
                    text, kind, found = await look()
        except RootUnusable as error:  # a container whose first sync is still to come
            seen, text, kind, found = None, f"{error}; waiting for it", RootUnusable, None
        except (LinkError, TimeoutError):
            if limit.expired():
                return
            text, kind, found = SILENT, Unreachable, None
        if found is not None:
            yield {"found": asdict(found)}
            return
        if not stack.remote.link.online:
            text, kind = SILENT, Unreachable
        if kind is Unreachable:
            since = loop.time()
        yield {"text": text, "kind": kind.__name__}
        await asyncio.sleep(POLL if until is None else min(POLL, max(0.0, until - loop.time())))


def _absent(experiment: str, known: Mapping[str, Node]) -> str:
    like = experiments.nearest(experiment, known)
    others = ", ".join(like) or ("1 other" if len(known) == 1 else f"{len(known)} others")
    return f"{experiment} is not there yet; on the server: {others}"


async def _unfinished(stack: Stack, nodes: list[Node]) -> list[str]:
    """The checkpoints that are cut short."""
    checkpoints = [node for node in nodes if node.name.endswith(experiments.CHECKPOINTS)]

    def complete(node: Node) -> Awaitable[bytes]:
        return xattrs.value(stack.tree, stack.fetcher, node, xattrs.COMPLETE)

    values = await each(checkpoints, complete, LOOKED_AT_ONCE)
    return [os.fsdecode(node.name) for node, value in zip(checkpoints, values, strict=True) if value == b"no"]
