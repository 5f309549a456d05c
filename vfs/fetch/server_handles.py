"""Files held open on the server: opened when bytes are wanted, or a little before; closed when they are idle.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from vfs.base.tasks import Tasks
from vfs.fetch.content import Content
from vfs.remote.api import Remote, RemoteFile

MOST = 128
"""Files held open on the server at a time; OpenSSH's sftp-server allows a few hundred handles a connection."""
IDLE_CLOSE = 10.0
"""Seconds after its last use that a server handle is closed."""
EARLY_SECONDS = 1.0
"""How long a file that was opened before anybody asked is kept open for it."""

Opening = asyncio.Task[RemoteFile]


class ServerHandles:
    """The open files of a remote, by content."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._used: OrderedDict[Content, float] = OrderedDict()
        self._early: dict[bytes, tuple[Opening, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks = Tasks()

    async def file(self, content: Content) -> RemoteFile:
        """The open file. Raises as `Remote.open`."""
        return await asyncio.shield(self.opening(content))

    def opening(self, content: Content) -> Opening:
        """The open file, or one that is being opened."""
        task, now = content.file, asyncio.get_running_loop().time()
        if task is None or _failed(task):
            task, content.opened = self._early.pop(content.path, (None, now))
            if task is None or _failed(task):
                task, content.opened = self._open(content.path), now
            content.file = task
        self._used[content] = now
        self._used.move_to_end(content)
        if len(self._used) > MOST:
            self._sweep()
        elif self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_CLOSE, self._sweep_idle)
        return task

    def open_early(self, path: bytes) -> None:
        """Open a regular file that will be opened in a moment, most likely: that saves a round trip."""
        if path in self._early or len(self._early) >= MOST:
            return
        loop = asyncio.get_running_loop()
        task = self._open(path)
        self._early[path] = task, loop.time()
        loop.call_later(EARLY_SECONDS, self._too_early, path, task)

    def _open(self, path: bytes) -> Opening:
        return self._tasks.spawn(self._remote.open(path))

    def reopen(self, content: Content) -> None:
        """Let go of the server's handle, also of one that was opened early: the next fetch opens the path anew."""
        early, _ = self._early.get(content.path, (None, 0.0))
        if early is not None:
            self._too_early(content.path, early)
        task, content.file = content.file, None
        self._used.pop(content, None)
        if task is not None:
            task.add_done_callback(_close)

    def contents(self) -> list[Content]:
        """The contents that have an open file."""
        return list(self._used)

    async def aclose(self) -> None:
        """Close all files, also those that are being opened."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for content in self.contents():
            self.reopen(content)
        for path, (task, _) in list(self._early.items()):
            self._too_early(path, task)
        await self._tasks.aclose()

    def _too_early(self, path: bytes, task: Opening) -> None:
        """Close a file that was opened early and not claimed within EARLY_SECONDS."""
        if self._early.get(path, (None, 0.0))[0] is task:
            del self._early[path]
            task.add_done_callback(_close)

    def _sweep(self) -> None:
        for content in self.contents():
            if len(self._used) <= MOST:
                return
            if not content.jobs:
                self.reopen(content)

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        for content, used in list(self._used.items()):
            if used <= loop.time() - IDLE_CLOSE and not content.jobs:
                self.reopen(content)
        if self._used:
            self._sweeper = loop.call_later(IDLE_CLOSE, self._sweep_idle)


def _failed(task: Opening) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _close(task: Opening) -> None:
    if not _failed(task):
        task.result().close()
