"""An asyncio loop whose clock jumps to the next timer when nothing else is ready, so that tests of minutes take none.

Work on other threads takes real time and no virtual time: while executor calls (`run_in_executor`, `to_thread`) are
under way, a `hold()` is open, or `busy` says so, the loop waits for them before it jumps. It waits `PATIENCE` seconds at
most, so that a test can leave a thread stuck on purpose and see the deadline of whoever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""Real seconds that the loop waits for other threads before it jumps, or gives up; once until one of them comes."""
_LIMIT = 30.0
"""Real seconds that it waits for known work on other threads when no timer could end the wait."""
_GRACE = 0.002
"""Real seconds that it waits for sockets and pipes that are watched."""
_POLL = 0.0005
"""Real seconds between two looks at busy threads."""
_TICK = 2.0**-26
"""The clock shows multiples of it, so that nothing is rounded: who sleeps for a TTL finds it over."""
_START = 1000.0
"""Virtual seconds at the start: not zero, so that a time that was never set does not look like the present."""


class Stuck(RuntimeError):
    """Nothing is ready, nothing is scheduled, and no other thread came: the test would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with `time()` of its own. Belongs to one thread, as every loop.

    `busy` tells whether threads that the loop does not know have something to do: no jump before they have done it.
    """

    def __init__(self, busy: Callable[[], bool] | None = None) -> None:
        self._now = _START
        self._held = 0
        self.busy = busy or (lambda: False)
        super().__init__(_Selector(self))
        self._own_fds = 1  # the pipe by which other threads wake the loop

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let the clock go on by `seconds`; timers that come due run in the loop's next round."""
        self._now = math.ceil((self._now + seconds) / _TICK) * _TICK

    @property
    def outstanding(self) -> bool:
        """Whether work on other threads is known to be under way."""
        return self._held > 0

    @property
    def watches_files(self) -> bool:
        """Whether real sockets or pipes are watched."""
        return len(self._selector.get_map()) > self._own_fds

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """While it is open, a thread that the loop does not know works for it: no jump."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._held += 1
        future.add_done_callback(self._release)
        return future

    def _release(self, _: asyncio.Future[Any]) -> None:
        self._held -= 1

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        with self.hold():
            await super().shutdown_default_executor(*args, **options)


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Where the loop would sleep, the clock jumps instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout != 0:
            events = self._until_idle() or super().select(self._patience(timeout))
            if not events and timeout is None:
                waiting = ", ".join(repr(task) for task in asyncio.all_tasks(self._loop))
                raise Stuck(f"nothing is scheduled; waiting: {waiting}")
        if events:
            self._waited = 0.0
        elif timeout is not None:
            self._loop.advance(timeout)
        return events

    def _until_idle(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what other threads have to do; what they bring, if anything."""
        end = time.monotonic() + PATIENCE
        while self._loop.busy() and time.monotonic() < end:
            if events := super().select(_POLL):
                return events
        return super().select(0)  # they may have come between the last look and their rest

    def _patience(self, timeout: float | None) -> float:
        """Real seconds to wait before a jump."""
        if timeout is None:
            return _LIMIT if self._loop.outstanding else PATIENCE
        if self._loop.outstanding and self._waited < PATIENCE:
            self._waited += PATIENCE
            return PATIENCE
        return _GRACE if self._loop.outstanding or self._loop.watches_files else 0.0


def run_virtual(main: Coroutine[Any, Any, T], busy: Callable[[], bool] | None = None) -> T:
    """Run `main` to its end on a loop with virtual time, cancel what it left behind, and give its result.

    `busy` as for `VirtualLoop`.

    Raises what `main` raises; `Stuck` when it waits for something that nobody will do.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(busy)) as runner:
        return runner.run(main)
