"""Requests to the server on behalf of programs: single-flight, and given up for cached answers while it is silent.

Offline, the last answer is given again; over a silent link, only if it was fresh when the silence began.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

from vfs.base.errors import Unreachable
from vfs.base.loop_time import loop_time
from vfs.base.tasks import SingleFlight
from vfs.remote.api import Remote

_FRESH_ONLY: ContextVar[bool] = ContextVar("fresh_only", default=False)

Key = tuple[str, bytes]
"""The kind of a request (node, name, list, statfs), and the path that it is about."""
Work = Callable[[], Coroutine[Any, Any, None]]


class Requests(SingleFlight[Key]):
    """`ttl`: seconds for which an answer is fresh."""

    def __init__(self, remote: Remote, ttl: float) -> None:
        super().__init__()
        self._remote, self._link = remote, remote.link
        self._ttl = ttl

    def silent(self) -> bool:
        """Whether the server does not answer now: offline, or an answer is overdue by more than the link's patience."""
        return not self._link.online or self._link.silence > self._link.patience

    def may_give(self, heard: float | None) -> bool:
        """Whether an answer of the time `heard` may be given without asking again; None: there was none.

        In a `fresh_only` block none may.
        """
        link = self._link
        if heard is None or _FRESH_ONLY.get():
            return False
        if not link.online:
            return True
        return link.silence > link.patience and loop_time() - link.silence - heard < self._ttl

    async def ask(self, key: Key, work: Work, *, heard: float | None) -> None:
        """Await the request for `key`, joining one in flight; return early once `may_give(heard)`.

        Raises as `work` does; Unreachable only when `heard` may not be given instead.
        """
        if key not in self and not self._link.online and self.may_give(heard):
            self._remote.hurry()
            return
        task = self.start(key, work)
        while not task.done():
            if self.may_give(heard):
                return
            await asyncio.wait({task}, timeout=None if heard is None else self._link.patience)
        try:
            task.result()
        except Unreachable:
            if not self.may_give(heard):
                raise


@contextlib.contextmanager
def fresh_only() -> Iterator[None]:
    """In the block, and in tasks that are started there, no answer is given in place of one that the server owes.

    A request waits, and raises Unreachable. For commands that act on an answer instead of showing it.
    """
    token = _FRESH_ONLY.set(True)
    try:
        yield
    finally:
        _FRESH_ONLY.reset(token)
