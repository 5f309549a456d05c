"""The open handles of one connection: no more than the server allows; idle ones are closed to make room.

A server that runs out of handles answers OPEN and OPENDIR with FAILURE, as for other errors. So after a FAILURE an idle handle
is closed and the path is opened again; if that succeeds, the number of handles then is the limit for a minute.

Erlang's server gives out a handle that is in use already, as soon as three are open, and each CLOSE takes the latest of its
files away. So a handle that was in use while its OPEN was under way is nobody's, see `_opened`.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from vfs.base.errors import ServerFailure
from vfs.remote.api import Attributes

log = logging.getLogger(__name__)

TRIES = 4
"""OPENs of one path, at most."""
UNUSED_SECONDS = 1.0
"""Age at which a handle that was never read from counts as idle; before that, its opener is about to read."""
LEARNT_SECONDS = 60.0
"""Seconds for which a limit inferred from a FAILURE holds: the FAILURE may have had another reason."""


@dataclass(slots=True, eq=False)
class Handle:
    """A server's handle. It may be closed whenever no read is in flight: check `open` before each use."""

    text: bytes
    asked: float
    """When its OPEN was sent, in the loop's time."""
    before: asyncio.Future[Attributes] | None
    """Where the server refuses FSTAT: the answer to STAT of the path, sent just before."""
    reading: int = 0
    used: bool = False
    open: bool = True


@dataclass(slots=True, eq=False)
class _Opening:
    future: asyncio.Future[Handle]
    send: Callable[[], asyncio.Future[bytes]]
    look: Callable[[], asyncio.Future[Attributes] | None]
    directory: bool
    asked: float = 0.0
    before: asyncio.Future[Attributes] | None = None
    tries: int = 0
    closes: int = 0
    """CLOSEs sent before its OPEN."""


class Handles:
    """The handles of one connection; `close` sends a CLOSE."""

    def __init__(self, close: Callable[[bytes], asyncio.Future[object]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._send_close = close
        self._told: int | None = None
        self._learnt: int | None = None
        self._learnt_at = 0.0
        self._open: dict[bytes, Handle] = {}
        """By their texts, the least recently used one first."""
        self._closes = 0
        self._last_close: dict[bytes, int] = {}
        """The number of the CLOSE that was sent for a handle; kept while an OPEN is under way."""
        self._asked = 0
        self._closing = 0
        self._queue: deque[_Opening] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, most: int) -> None:
        """The server told how many it allows; 0 stands for "not told"."""
        self._told = most or None

    def open(
        self,
        send: Callable[[], asyncio.Future[bytes]],
        look: Callable[[], asyncio.Future[Attributes] | None] = lambda: None,
        *,
        directory: bool = False,
    ) -> asyncio.Future[Handle]:
        """A handle, once there is room for it. `send` asks for it, `look` is called just before.

        A directory's counts as read from until it is closed.
        """
        opening = _Opening(self._loop.create_future(), send, look, directory)
        self._queue.append(opening)
        self._pump()
        return opening.future

    def close(self, handle: Handle) -> None:
        """Close it without waiting. Idempotent."""
        if handle.open:
            self._forget(handle)
            self._close(handle.text)

    def begin(self, handle: Handle) -> None:
        """A read begins; until it `end`s the handle stays open."""
        handle.reading += 1
        handle.used = True
        if self._open.pop(handle.text, None) is not None:
            self._open[handle.text] = handle

    def end(self, handle: Handle) -> None:
        """A read has ended."""
        handle.reading -= 1
        if self._queue:
            self._pump()

    def fail(self, error: Exception) -> None:
        """The connection has ended: nothing more is opened."""
        self._told = self._learnt = None
        queue, self._queue = self._queue, deque()
        for opening in queue:
            if not opening.future.done():
                opening.future.set_exception(error)
        for handle in list(self._open.values()):
            self._forget(handle)

    def _pump(self) -> None:
        while self._queue:
            if self._queue[0].future.done():  # given up
                self._queue.popleft()
            elif self._full():
                self._make_room()
                return
            else:
                self._ask(self._queue.popleft())

    def _full(self) -> bool:
        if self._learnt is not None and self._loop.time() - self._learnt_at > LEARNT_SECONDS:
            self._learnt = None
        most = self._learnt or self._told
        return most is not None and 0 < most <= self._count()

    def _make_room(self) -> None:
        """Close idle handles for those that wait; if there are none, look again when there may be."""
        oldest_unused = self._loop.time() - UNUSED_SECONDS
        idle = [
            one for one in self._open.values() if not one.reading and (one.used or one.asked <= oldest_unused)
        ]
        for handle in idle[: max(0, len(self._queue) - self._closing)]:
            self.close(handle)
        if not self._closing and self._timer is None:
            self._timer = self._loop.call_later(UNUSED_SECONDS, self._again)

    def _again(self) -> None:
        self._timer = None
        self._pump()

    def _ask(self, opening: _Opening) -> None:
        self._asked += 1
        opening.asked = self._loop.time()
        opening.closes = self._closes
        opening.before = opening.look()
        opening.send().add_done_callback(partial(self._answered, opening))

    def _answered(self, opening: _Opening, answer: asyncio.Future[bytes]) -> None:
        self._asked -= 1
        opening.tries += 1
        error = answer.exception()
        if error is None:
            self._opened(opening, answer.result())
        elif isinstance(error, ServerFailure) and self._count() and opening.tries < TRIES:
            self._learn(len(self._open))
            self._queue.append(opening)
        else:
            if opening.tries > 1 and isinstance(error, ServerFailure):  # it was not for want of handles
                self._learnt = None
            if not opening.future.done():
                opening.future.set_exception(error)
        if not self._asked:
            self._last_close.clear()
        self._pump()

    def _learn(self, most: int) -> None:
        self._learnt, self._learnt_at = max(1, most), self._loop.time()

    def _count(self) -> int:
        return len(self._open) + self._asked + self._closing

    def _opened(self, opening: _Opening, text: bytes) -> None:
        twin = self._open.get(text)
        closed_behind = self._last_close.get(text, 0) > opening.closes
        if twin is not None or closed_behind:
            log.warning("the server gave out a handle that is in use already; both are closed")
            self._learn(len(self._open))
            if twin is not None:
                self.close(twin)
            closed = self._close(text)
            if opening.tries < TRIES:
                closed.add_done_callback(lambda _: self._once_more(opening))
            elif not opening.future.done():
                opening.future.set_exception(ServerFailure("the server gives out one handle for two files"))
            return
        handle = Handle(text, opening.asked, opening.before, reading=int(opening.directory))
        self._open[text] = handle
        if opening.future.done():
            self.close(handle)
        else:
            opening.future.set_result(handle)

    def _once_more(self, opening: _Opening) -> None:
        self._queue.append(opening)
        self._pump()

    def _forget(self, handle: Handle) -> None:
        handle.open = False
        self._open.pop(handle.text, None)

    def _close(self, text: bytes) -> asyncio.Future[object]:
        self._closing += 1
        self._closes += 1
        if self._asked:
            self._last_close[text] = self._closes
        future = self._send_close(text)
        future.add_done_callback(self._closed)
        return future

    def _closed(self, future: asyncio.Future[object]) -> None:
        future.exception()
        self._closing -= 1
        self._pump()
