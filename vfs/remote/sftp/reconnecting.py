"""Connecting again after the link was lost: at once, then more and more seldom, sooner when somebody wants the server.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from vfs.base.tasks import Tasks

FIRST_RETRY = 1.0
LAST_RETRY = 30.0
GROWTH = 1.3
"""Each wait is so much longer than the one before: at most a third of the time that the link has been down."""
HURRIED = 2.0
"""Seconds after a failed attempt before one is made because somebody wants the server."""


def backoff(attempt: int, chance: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0): 1, 1.3, 1.7 … 30, each shortened by up to a half.

    `chance`: a random number from 0 to 1, so that many clients do not come back at once.
    """
    return float(min(LAST_RETRY, FIRST_RETRY * GROWTH ** min(attempt, 20)) * (1 - chance / 2))


class Reconnecting:
    """`attempt` tries once, and says whether there is a connection now."""

    def __init__(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        self._attempt = attempt
        self._tasks = Tasks()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the attempt under way, or else the next one, has ended."""
        self.attempts = 0
        """Those that backoff counts; with 0 the next one is made at once."""

    def begin(self) -> None:
        """Try until there is a connection, if that is not being done."""
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._keep_trying())

    def hurry(self) -> None:
        """Do not wait for longer than `HURRIED` after the last attempt."""
        self._wanted.set()

    async def hurried(self) -> None:
        """As `hurry`, and wait until the attempt has ended; at once where none will be made."""
        self.hurry()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task, self._over}, return_when=asyncio.FIRST_COMPLETED)

    def stop(self) -> None:
        """Try no more until `begin`."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _keep_trying(self) -> None:
        while True:
            if self.attempts:
                due = asyncio.get_running_loop().time() + backoff(self.attempts - 1, random.random())
                while await self._wanted_before(due):
                    if await self._try():
                        return
            self.attempts += 1
            if await self._try():
                return

    async def _wanted_before(self, due: float) -> bool:
        """Wait until that time of the loop, or until an attempt is wanted sooner: then True."""
        try:
            async with asyncio.timeout_at(due):
                await asyncio.sleep(HURRIED)
                await self._wanted.wait()
        except TimeoutError:
            return False
        return True

    async def _try(self) -> bool:
        self._wanted.clear()
        try:
            return await self._attempt()
        finally:
            self._over.set_result(None)
            self._over = asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        """Stop for good."""
        await self._tasks.aclose()
