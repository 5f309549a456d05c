"""Work on many things, some of them at a time. On the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def each(things: Collection[T], work: Callable[[T], Awaitable[R]], at_once: int) -> list[R]:
    """What `work` returns for each thing, in order; `at_once` at a time.

    The first failure ends the others, and is raised when they have ended.
    """
    results: dict[int, R] = {}
    todo = iter(enumerate(things))

    async def lane() -> None:
        for place, thing in todo:
            results[place] = await work(thing)

    tasks = [asyncio.ensure_future(lane()) for _ in range(min(at_once, len(things)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [results[place] for place in range(len(things))]
