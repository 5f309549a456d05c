"""One `artisync pull` from beginning to end: plan and fetch, once or as long as it watches. On the event loop's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vfs.base.errors import DestinationUnusable, LinkError, Unreachable
from vfs.base.progress import Progress
from vfs.commands.pull import Order, Pull
from vfs.commands.pull_dest import PullDirectory
from vfs.commands.pull_journal import Pulled
from vfs.commands.reports import Report, Tell
from vfs.commands.reports import reports as told
from vfs.files.node import Kind
from vfs.stack import Stack

WATCH_SECONDS = 2.0
"""Seconds that a watch rests between two looks at least."""
REST = 10
"""A rest is this many times as long as the look before it, so that a large tree is not listed without pause."""
LONGEST_REST = 60.0


async def run(stack: Stack, order: Order, progress: Progress, tell: Tell) -> None:
    """Do it. `tell` is told, in plain types, the "plan" of a dry run; "outcome" and "seconds" after each round; while
    watching, that a round is "fetching", and why the server is "offline".

    Raises as `Pull`; DestinationUnusable; Unreachable where the server does not answer another attempt to connect.
    """
    place = Path(order.directory)
    if not stack.remote.link.online:
        await stack.remote.hurried()
    if not stack.remote.link.online and not order.watch:
        raise Unreachable("the server does not answer; pull needs a connection")
    try:
        opened = PullDirectory(place)
    except OSError as error:
        raise DestinationUnusable(f"{place} cannot be opened: {error.strerror}") from error
    with opened as directory, Pulled(place) as pulled:
        patience = 0.0 if order.watch else stack.settings.timeout
        pull = Pull(stack, order, directory, pulled, progress, patience=patience)
        if order.watch:
            await _watch(pull, tell)
            return
        items = await pull.plan()
        if order.dry_run:
            files = [item for item in items if item.node.kind is not Kind.DIRECTORY]
            files.sort(key=lambda item: item.name)
            plan = [{"name": i.name, "size": i.size, "action": i.action.value} for i in files]
            tell({"plan": plan, "outcome": asdict(pull.outcome)})
            return
        began = time.monotonic()
        try:
            await pull.fetch(items)
        finally:
            tell({"outcome": asdict(pull.outcome), "seconds": time.monotonic() - began})


async def _watch(pull: Pull, tell: Tell) -> None:
    """Pull again and again; wait for a server that does not answer."""
    first = True
    while True:
        began = time.monotonic()
        looked = 0.0
        try:
            items = await pull.plan()
            looked = time.monotonic() - began
            if any(item.size for item in items):
                tell({"fetching": True})
            await pull.fetch(items)
        except LinkError as error:
            if first:
                raise
            tell({"offline": str(error) or error.hint})
        else:
            tell({"outcome": asdict(pull.outcome), "seconds": time.monotonic() - began})
            pull.outcome = type(pull.outcome)()
            first = False
        await asyncio.sleep(min(LONGEST_REST, max(WATCH_SECONDS, REST * looked)))


def reports(stack: Stack, **order: Any) -> AsyncIterator[Report]:
    """As `run`, for an `Order` with these fields: the reports, and the "progress"."""
    progress = Progress()
    return told(lambda tell: run(stack, Order(**order), progress, tell), progress)
