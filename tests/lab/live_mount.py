"""The control socket of a mount that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from vfs.control.server import ControlServer, announce


@contextmanager
def live(place: Path, verbs: dict[str, Any], profile: str | None = "default") -> Iterator[None]:
    """A mount's control socket, served by a loop on another thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(announce(place, verbs, profile=profile), loop).result(10)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: ControlServer) -> None:
    await server.aclose()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
