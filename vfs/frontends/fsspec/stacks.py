"""The stacks of this process: each opened once, shared by all threads, on one event loop in the background.

For callers without an event loop of their own. Everything public here may be called from any thread. A forked child
begins anew: what it inherits belongs to its parent, and is left alone.
"""

from __future__ import annotations

import asyncio
import atexit
import encodings.ascii
import encodings.idna
import errno
import gc
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack
from typing import TypeVar

import vfs.remote.ssh.fallback
import vfs.remote.ssh.openssh
import vfs.remote.ssh.paramiko_dialer
from vfs.base.errors import ArtisyncError
from vfs.base.settings import resolve
from vfs.base.tasks import Tasks
from vfs.stack import Stack, open_stack

log = logging.getLogger(__name__)

# Imported now and not on first use: a child that is forked while the loop's thread imports one could never import it.
_USED_BY_THE_LOOP = (encodings.ascii, encodings.idna, vfs.remote.ssh.openssh, vfs.remote.ssh.paramiko_dialer)

T = TypeVar("T")
Options = Mapping[str, object]

FOLLOW_SECONDS = 1.0
"""How often a profile is looked at while its server does not answer."""
CLOSE_SECONDS = 10.0
"""The longest that the end of the process waits for the stacks to close."""


class Stacks:
    """A thread with an event loop, and the stacks that live on it. Made by `of_this_process`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._opened: dict[str, asyncio.Task[Stack]] = {}
        self._following = Tasks()
        self._closing = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._submitting = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="artisync", daemon=True)
        self._thread.start()

    def run(self, options: Options, work: Callable[[Stack], Awaitable[T]]) -> T:
        """What `work` returns, given the stack that `options` (those of `resolve`) stand for. Blocks.

        Raises as `open_stack`, what `work` raises, and OSError when the stacks are closed, also meanwhile.
        """
        with self._submitting:
            if self._ended:
                raise _shut_down()
            future = asyncio.run_coroutine_threadsafe(self._run(options, work), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise _shut_down() from None
        finally:
            future.cancel()  # for Ctrl-C; one that is done stays as it is

    def soon(self, call: Callable[[], None]) -> None:
        """Call that on the loop's thread, as long as there is one in this process."""
        if self._pid == os.getpid():
            with self._submitting:
                if not self._ended:
                    self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """Close all stacks and end the loop, once; what waits to be written to the cache is written.

        Nothing can be run afterwards.
        """
        with self._submitting:
            self._ended = True
            future = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        try:
            future.result(CLOSE_SECONDS)
        except (ArtisyncError, OSError) as error:  # TimeoutError too
            log.warning("closing took too long or failed: %s", error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        gc.collect()  # SQLite's connections of threads that have ended are in cycles, and so are the blocks in memory

    def _serve(self) -> None:
        # the runner ends what still runs, and closes the loop
        with asyncio.Runner(loop_factory=lambda: self._loop):
            self._loop.run_forever()

    # --- on the loop's thread -----------------------------------------------------------------------------------

    async def _run(self, options: Options, work: Callable[[Stack], Awaitable[T]]) -> T:
        return await work(await self._stack(options))

    async def _stack(self, options: Options) -> Stack:
        key = repr(sorted(options.items()))
        task = self._opened.get(key)
        if task is None:
            task = self._opened[key] = asyncio.ensure_future(self._open(options))
            task.add_done_callback(lambda task: self._over(key, task))
        return await asyncio.shield(task)

    def _over(self, key: str, task: asyncio.Task[Stack]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._opened.pop(key, None)  # the next call tries again

    async def _open(self, options: Options) -> Stack:
        opening = open_stack(resolve(options), offline=True)
        stack = await self._closing.enter_async_context(opening)
        self._following.spawn(_follow_profile(options, stack))
        return stack

    async def _close(self) -> None:
        await self._following.aclose()
        opening = list(self._opened.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        self._opened.clear()
        await self._closing.aclose()


def _shut_down() -> OSError:
    return OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))


async def _follow_profile(options: Options, stack: Stack) -> None:
    """While the server does not answer: go to the new address that `artisync connect` has saved meanwhile."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        if stack.remote.link.online:
            continue
        try:
            settings = resolve(options)
            same_files = settings.identity == stack.settings.identity
            if same_files and settings.address != stack.settings.address:
                await stack.move(settings)
        except ArtisyncError as error:
            log.info("cannot go to the profile's address: %s", error)


_current: Stacks | None = None
_inherited: list[Stacks] = []
"""Those of the parent process. They are kept: ending a loop would remove the parent's descriptors from the shared epoll."""
_lock = threading.Lock()


def of_this_process() -> Stacks:
    """The stacks of the process that asks."""
    global _current
    with _lock:
        if _current is None:
            _current = Stacks()
        return _current


def close() -> None:
    """Close the stacks of this process, as its end does by itself; a later call gets new ones."""
    global _current
    with _lock:
        closing, _current = _current, None
    if closing is not None:
        closing.close()


def _begin_anew() -> None:
    global _current, _lock
    _lock = threading.Lock()  # another thread of the parent may hold the old one
    if _current is not None:
        _inherited.append(_current)
        _current = None


os.register_at_fork(after_in_child=_begin_anew)
# Earlier than atexit: while threads can still be started, and also at the end of multiprocessing's children.
getattr(threading, "_register_atexit", atexit.register)(close)
