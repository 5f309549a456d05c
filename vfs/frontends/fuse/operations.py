"""The kernel's requests to `Files`, and its answers to the kernel: nodeids are the ids of nodes, handles are numbers.

Called by the session on the event loop's thread, and answers there. What can be said at once is answered inline;
everything else becomes a task with a deadline, so that a thousand waiting reads hold no thread, and none waits for ever.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from vfs.base.calls import Call, at_once
from vfs.base.errnos import errno_of
from vfs.base.errors import ArtisyncError, NoSuchPath
from vfs.base.loop_time import loop_time
from vfs.base.tasks import Tasks
from vfs.files.node import Node
from vfs.files.reader import Piece, Reader
from vfs.files.service import Files
from vfs.files.shown import NOTHING
from vfs.frontends.fuse import reply, signals
from vfs.frontends.fuse.kernel_readahead import USUAL
from vfs.frontends.fuse.reply import DirectoryBuffer
from vfs.frontends.fuse.requests import Request, on_interrupt, thread_of

LOOK_AGAIN = 0.1
"""Seconds between looks at the signals of a program that waits, once there was one that ends nothing."""

RETRIED = 0.1
"""Seconds within which the kernel asks a second time for a page that its readahead did not get."""

PATIENCE = 0.05
"""Seconds that a read waits for the disk or the link before it becomes a task, which can be interrupted and has a deadline."""


class Operations:
    """The handler of a FUSE session. Each method answers its request once, now or later, by the function of `reply` that it
    names, or by `reply.error` with the errno of what `Files` raises (`base/errnos.py`; ESTALE for a nodeid that is gone).

    `nodeid`, `parent`: the id of a node that an answer gave to the kernel, 1 for the root. `fh`: the handle that an `open` or
    `opendir` was answered with. `size` and `offset` are bytes, but `offset` counts entries in `readdirplus`.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self._readers: dict[int, Reader] = {}
        self._directories: dict[int, tuple[Node, list[Node]]] = {}
        """By handle: the directory and its children, as one `opendir` saw them."""
        self._numbers = itertools.count(1)
        self._late: dict[int, list[tuple[int, int, float]]] = {}
        """By handle: the reads that timed out, from where to where, and when."""
        self._tasks = Tasks()
        self._threads: dict[asyncio.Task[None], int] = {}
        """The thread of the program that waits for each task."""
        self._closing = False
        self.kernel_readahead: Callable[[int], int] = lambda size: USUAL
        """Sets the kernel's readahead, in bytes, of files opened from now on; returns the value in force."""
        self.forget_attributes: Callable[[int], None] = lambda nodeid: None
        """Has the kernel ask for a node's attributes before it uses them again."""

    @property
    def open_files(self) -> int:
        """Files that programs hold open just now."""
        return len(self._readers)

    @property
    def waiting(self) -> list[int]:
        """The threads of programs that wait for an answer just now; 0 for one of another container."""
        return sorted(set(self._threads.values()))

    # --- names ------------------------------------------------------------------------------------------------

    def lookup(self, req: Request, parent: int, name: bytes) -> None:
        """What `name` in a directory stands for: `reply.entry`, after which the kernel holds the nodeid once more; nodeid 0: nothing."""
        directory = self._node(req, "lookup", parent)
        if directory is None:
            return
        try:
            node = self.files.lookup_now(directory, name)
        except NoSuchPath:
            at_once("lookup", directory, errno.ENOENT, name=name)
            self._absent(req, directory)
        except ArtisyncError as error:
            self._fail(req, "lookup", directory, errno_of(error), name=name)
        else:
            if node is None:
                self._spawn(req, Call("lookup", directory, name=name), self._lookup(req, directory, name))
            else:
                at_once("lookup", directory, name=name)
                self._entry(req, node)

    async def _lookup(self, req: Request, directory: Node, name: bytes) -> None:
        try:
            node = await self.files.lookup(directory, name)
        except NoSuchPath:
            self._absent(req, directory)
        else:
            self._entry(req, node)

    def forget(self, nodeid: int, count: int) -> None:
        """The kernel holds the nodeid `count` times less. There is no answer."""
        self.files.forget(nodeid, count)

    def getattr(self, req: Request, nodeid: int) -> None:
        """`reply.attributes`, with the seconds for which the kernel may keep them."""
        node = self._node(req, "getattr", nodeid)
        if node is None:
            return
        try:
            shown = self.files.attributes_now(node)
        except ArtisyncError as error:
            self._fail(req, "getattr", node, errno_of(error))
            return
        if shown is None:
            self._spawn(req, Call("getattr", node), self._getattr(req, node))
        else:
            at_once("getattr", node)
            reply.attributes(req, shown, self.files.valid_for(node))

    async def _getattr(self, req: Request, node: Node) -> None:
        shown = await self.files.attributes(node)
        reply.attributes(req, shown, self.files.valid_for(node))

    def readlink(self, req: Request, nodeid: int) -> None:
        """The text of a symlink: `reply.text`."""
        node = self._node(req, "readlink", nodeid)
        if node is not None:
            at_once("readlink", node)
            reply.text(req, node.target)

    # --- files ------------------------------------------------------------------------------------------------

    def open(self, req: Request, nodeid: int) -> None:
        """Open a file for reading: `reply.opened`."""
        node = self._node(req, "open", nodeid)
        if node is not None:
            self._spawn(req, Call("open", node), self._open(req, node))

    async def _open(self, req: Request, node: Node) -> None:
        reader = await self.files.open(node)
        fh = next(self._numbers)
        self._readers[fh] = reader
        reader.asked_ahead(self.kernel_readahead(reader.ahead_wanted))
        if not reply.opened(req, fh, keep_cache=reader.keep_pages):
            self._close(fh)

    def read(self, req: Request, nodeid: int, size: int, offset: int, fh: int) -> None:
        """`reply.memory`, with fewer bytes than `size` at the end of the file only; ESTALE when its version is gone."""
        reader = self._readers[fh]
        pieces = reader.read_now(offset, size)
        if pieces is not None:
            at_once("read", reader.node, off=offset, len=size)
            self._data(req, reader.node, pieces)
            return
        if fh in self._late and self._was_late(fh, offset):  # the program has waited for it once
            self._fail(req, "read", reader.node, errno.ETIMEDOUT, off=offset, len=size)
            return
        over = begun = False

        def work() -> None:
            nonlocal over
            over = True
            if self._closing:
                reply.error(req, self._cancelled())
                return
            call = Call("read", reader.node, off=offset, len=size)
            self._spawn(req, call, self._read(req, fh, offset, size, noted=begun))

        def loaded(pieces: list[Piece] | None) -> None:
            if over:
                return
            if pieces is not None:
                at_once("read", reader.node, off=offset, len=size)
                self._data(req, reader.node, pieces)
            timer.cancel()
            if pieces is None:
                work()

        timer = asyncio.get_running_loop().call_later(PATIENCE, work)
        begun = reader.read_soon(offset, size, loaded)
        if not begun:
            timer.cancel()
            work()

    async def _read(self, req: Request, fh: int, offset: int, size: int, *, noted: bool) -> None:
        reader = self._readers[fh]
        began = loop_time()
        try:
            pieces = await reader.read(offset, size, noted=noted)
        except asyncio.CancelledError:
            if loop_time() - began >= self.files.timeout - RETRIED:  # else a signal ended it
                self._late.setdefault(fh, []).append((offset, offset + size, loop_time()))
            raise
        self._data(req, reader.node, pieces)

    def _was_late(self, fh: int, offset: int) -> bool:
        """Whether a read of that place timed out just now."""
        recent = [late for late in self._late.pop(fh) if loop_time() - late[2] < RETRIED]
        if recent:
            self._late[fh] = recent
        return any(start <= offset < end for start, end, _ in recent)

    def release(self, req: Request, nodeid: int, fh: int) -> None:
        """The last descriptor of an open file was closed: `reply.error` with 0."""
        self._close(fh)
        reply.error(req, 0)

    def _close(self, fh: int) -> None:
        self._late.pop(fh, None)
        self._readers.pop(fh).close()

    # --- directories --------------------------------------------------------------------------------------------

    def opendir(self, req: Request, nodeid: int) -> None:
        """List a directory: `reply.opened`. What `readdirplus` gives is the listing of this moment."""
        node = self._node(req, "opendir", nodeid)
        if node is None:
            return
        children = self.files.listing_now(node)
        if children is None:
            self._spawn(req, Call("opendir", node), self._opendir(req, node))
        else:
            at_once("opendir", node)
            self._opened_directory(req, node, list(children.values()))

    async def _opendir(self, req: Request, node: Node) -> None:
        children = await self.files.listing(node)
        self._opened_directory(req, node, list(children.values()))

    def _opened_directory(self, req: Request, node: Node, children: list[Node]) -> None:
        fh = next(self._numbers)
        self._directories[fh] = node, children
        if not reply.opened(req, fh):
            del self._directories[fh]

    def releasedir(self, req: Request, nodeid: int, fh: int) -> None:
        """As `release`, for a directory."""
        del self._directories[fh]
        reply.error(req, 0)

    def readdirplus(self, req: Request, nodeid: int, size: int, offset: int, fh: int) -> None:
        """Entries from number `offset` on, with attributes: `DirectoryBuffer.reply` of at most `size` bytes.

        The kernel holds each nodeid once more, except for `.` and `..`.
        """
        (node, children), files = self._directories[fh], self.files
        at_once("readdir", node, off=offset)
        buffer = DirectoryBuffer(size)
        given: list[Node] = []
        for position in range(offset, len(children) + 2):
            if position < 2:
                shown = node if position == 0 else node.parent or node
                name, held = (b".", b"..")[position], False
            else:
                shown = children[position - 2]
                name = shown.name
                held = not shown.stale and shown.pending is None
            if held:
                seconds = files.valid_for(shown)
                added = buffer.add(name, shown.id, files.shown(shown), seconds, position + 1)
            else:
                added = buffer.add(name, 0, files.glimpse(shown), 0.0, position + 1)
            if not added:
                break
            if held:
                files.hold(shown)
                given.append(shown)
        if not buffer.reply(req):
            for shown in given:
                files.forget(shown.id, 1)

    # --- the rest -------------------------------------------------------------------------------------------------

    def statfs(self, req: Request, nodeid: int) -> None:
        """`reply.statfs`."""
        self._spawn(req, Call("statfs", self.files.root), self._statfs(req))

    async def _statfs(self, req: Request) -> None:
        reply.statfs(req, await self.files.statfs())

    def getxattr(self, req: Request, nodeid: int, name: bytes, size: int) -> None:
        """`reply.xattr` with a value; ENODATA, or EOPNOTSUPP outside `user.`, where there is none of that name."""
        node = self._node(req, "getxattr", nodeid)
        if node is None:
            return
        if self.files.has_xattr(node, name):
            self._spawn(req, Call("getxattr", node, name=name), self._getxattr(req, node, name, size))
        else:
            # with ENODATA, `ls -l` asks for an ACL and a security label again for each file of a directory
            number = errno.ENODATA if name.startswith(b"user.") else errno.EOPNOTSUPP
            self._fail(req, "getxattr", node, number, name=name)

    async def _getxattr(self, req: Request, node: Node, name: bytes, size: int) -> None:
        reply.xattr(req, await self.files.xattr(node, name), size)

    def listxattr(self, req: Request, nodeid: int, size: int) -> None:
        """`reply.xattr` with no names."""
        reply.xattr(req, b"", size)  # `cp -a`, `rsync -X` and `tar --xattrs` would give ours to their copies

    async def aclose(self) -> None:
        """Answer the requests in flight with ENOTCONN, and close all handles."""
        self._closing = True
        await self._tasks.aclose()
        for fh in list(self._readers):
            self._close(fh)

    # --- answers --------------------------------------------------------------------------------------------------

    def _node(self, req: Request, operation: str, nodeid: int) -> Node | None:
        """The node that the kernel means; None, and the request is answered, when there is no such node."""
        try:
            return self.files.node(nodeid)
        except ArtisyncError as error:
            self._fail(req, operation, None, errno_of(error), nodeid=nodeid)
            return None

    def _fail(self, req: Request, operation: str, node: Node | None, number: int, **details: object) -> None:
        """Answer at once that it failed, with this errno."""
        at_once(operation, node, number, **details)
        reply.error(req, number)

    def _spawn(self, req: Request, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` answer the request, in a task that ends with the program that waits."""
        task = self._tasks.spawn(self._serve(req, call, work))
        pid = self._threads[task] = thread_of(req)

        def interrupted() -> None:
            if signals.ends_a_call(pid):
                task.cancel()
            elif not task.done():
                # the kernel tells of a request's first signal only
                task.get_loop().call_later(LOOK_AGAIN, interrupted)

        def over(task: asyncio.Task[None]) -> None:
            del self._threads[task]
            if task.cancelled():  # before its first step, so that it did not answer
                work.close()
                reply.error(req, self._cancelled())

        task.add_done_callback(over)
        on_interrupt(req, interrupted)

    def _cancelled(self) -> int:
        """The errno of a request whose task was cancelled."""
        return errno.ENOTCONN if self._closing else errno.EINTR

    async def _serve(self, req: Request, call: Call, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self.files.answer(call, work)
        except asyncio.CancelledError:
            reply.error(req, self._cancelled())
        except Exception as error:  # noqa: BLE001 # `answer` has logged it
            reply.error(req, errno_of(error))

    def _absent(self, req: Request, directory: Node) -> None:
        """The name is not there: let the kernel remember that for as long as the listing is fresh."""
        seconds = self.files.absent_for(directory)
        if seconds > 0:
            reply.entry(req, 0, NOTHING, seconds)
        else:
            reply.error(req, errno.ENOENT)

    def _entry(self, req: Request, node: Node) -> None:
        """Answer a lookup; the kernel holds the node from then on."""
        self.files.hold(node)
        if not reply.entry(req, node.id, self.files.shown(node), self.files.valid_for(node)):
            self.files.forget(node.id, 1)

    def _data(self, req: Request, node: Node, pieces: list[Piece]) -> None:
        if node.resized:  # the kernel would end the file where it was told that it ends
            node.resized = False
            self.forget_attributes(node.id)
        reply.memory(req, [(block.address(a), b - a) for block, a, b in pieces])
