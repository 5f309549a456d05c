"""What long work tells while it goes on, in plain types: to a command beside it, or to one that asks over the control socket.

On the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from typing import Any

from vfs.base.progress import Progress

INTERVAL = 0.2
"""Seconds between two looks at the progress."""

Report = dict[str, Any]
Tell = Callable[[Report], None]


async def reports(
    work: Callable[[Tell], Coroutine[Any, Any, None]], progress: Progress
) -> AsyncIterator[Report]:
    """Yields what `work` reports at once, and the "progress" before and between. Raises what `work` raises.

    Closing the iterator ends the work. When it is cancelled, it still yields what the work reports at its end.
    """
    told: asyncio.Queue[Report | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(told.put_nowait))
    task.add_done_callback(lambda _: told.put_nowait(None))
    report: Report | None = {}
    try:
        while report is not None:
            yield {"progress": asdict(progress)}
            if report:
                yield report
            try:
                async with asyncio.timeout(INTERVAL):
                    report = await told.get()
            except TimeoutError:
                report = {}
        task.result()
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        while report := told.get_nowait():
            yield report
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
