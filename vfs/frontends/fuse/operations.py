"""FUSE requests: by nodeid to nodes and readers; open handles.

Called by the session on the event loop's thread, and answers there. What is known is answered inline; everything else
becomes a task with a deadline, so that a thousand waiting reads hold no thread, and none waits for ever.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import stat
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from vfs.base import errors
from vfs.base.errnos import errno_of
from vfs.fetch.fetcher import Fetcher
from vfs.files import xattrs
from vfs.files.fetch_ahead import Siblings
from vfs.files.node import Kind, Node
from vfs.files.reader import Piece, Reader, open_reader
from vfs.files.tree import Tree
from vfs.frontends.fuse import reply, signals
from vfs.frontends.fuse.reply import DirectoryBuffer, Entry, FileAttributes, FsAttributes
from vfs.frontends.fuse.requests import Request, caller, forget_interrupt, on_interrupt
from vfs.remote.api import LONGEST_NAME, FsStats, Remote

log = logging.getLogger(__name__)

FS_SECONDS = 5.0
"""How long the server's figures for statfs are used."""
LOOK_AGAIN = 0.1
"""Seconds between looks at the signals of a program that waits, once there was one that ends nothing."""


@dataclass(slots=True)
class OpenDirectory:
    """A snapshot of a listing, as one `opendir` saw it."""

    node: Node
    children: list[Node]


class Operations:
    """The handler of a FUSE session over one tree.

    `timeout`: seconds that one request may take at most. `uid`, `gid`: who owns everything that is shown.
    """

    def __init__(self, tree: Tree, fetcher: Fetcher, remote: Remote, timeout: float) -> None:
        self.tree = tree
        self.fetcher = fetcher
        self.remote = remote
        self.timeout = timeout
        self.siblings = Siblings(tree, fetcher)
        self.uid, self.gid = os.getuid(), os.getgid()
        self._handles: dict[int, Reader | OpenDirectory] = {}
        self._numbers = itertools.count(1)
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._fs: tuple[float, FsStats | None] | None = None
        self._closing = False

    @property
    def open_files(self) -> int:
        """Files that programs hold open just now."""
        return sum(isinstance(handle, Reader) for handle in self._handles.values())

    @property
    def waiting(self) -> list[int]:
        """The threads of programs that wait for an answer just now; 0 for one of another container."""
        return sorted(set(self._tasks.values()))

    # --- names ------------------------------------------------------------------------------------------------

    def lookup(self, req: Request, parent: int, name: bytes) -> None:
        directory = self._node(req, parent)
        if directory is None:
            return
        try:
            node = self.tree.peek(directory, name)
        except errors.NoSuchPath:
            self._absent(req, directory)
            return
        except errors.NameTooLong as error:
            reply.error(req, errno_of(error))
            return
        if node is not None:
            self._entry(req, node)
        else:
            self._spawn(req, self._lookup(req, directory, name))

    async def _lookup(self, req: Request, directory: Node, name: bytes) -> None:
        try:
            node = await self.tree.lookup(directory, name)
        except errors.NoSuchPath:
            self._absent(req, directory)
        else:
            self._entry(req, node)

    def forget(self, nodeid: int, count: int) -> None:
        self.tree.forget(nodeid, count)

    def getattr(self, req: Request, nodeid: int, fh: int | None) -> None:
        node = self._node(req, nodeid)
        if node is None:
            return
        if self.tree.fresh(node) or (node.stale and node.content is not None and node.content.readers):
            self._attributes(req, node)
        elif node.stale:
            reply.error(req, errno.ESTALE)
        else:
            self._spawn(req, self._getattr(req, node))

    async def _getattr(self, req: Request, node: Node) -> None:
        await self.tree.refresh(node)
        await self.tree.versions.rechecked(node)
        if node.stale and not (node.content is not None and node.content.readers):
            raise errors.StaleVersion(f"{node.path!r} was replaced")
        self._attributes(req, node)

    def readlink(self, req: Request, nodeid: int) -> None:
        node = self._node(req, nodeid)
        if node is not None:
            reply.text(req, node.target)

    def access(self, req: Request, nodeid: int, mask: int) -> None:
        node = self._node(req, nodeid)
        if node is not None:
            reply.error(req, 0)

    # --- files ------------------------------------------------------------------------------------------------

    def open(self, req: Request, nodeid: int, flags: int) -> None:
        node = self._node(req, nodeid)
        if node is None:
            return
        if node.kind is not Kind.FILE:
            reply.error(req, errno.EOPNOTSUPP)
            return
        self._spawn(req, self._open(req, node))

    async def _open(self, req: Request, node: Node) -> None:
        reader = await open_reader(self.tree, self.fetcher, node)
        fh = next(self._numbers)
        self._handles[fh] = reader
        if not reply.opened(req, fh, keep_cache=reader.keep_pages):
            self._close(fh)
        self.siblings.note(node)

    def read(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None:
        reader = self._handles[fh]
        assert isinstance(reader, Reader)
        pieces = reader.read_now(offset, size)
        if pieces is not None:
            _data(req, pieces)
        else:
            self._spawn(req, self._read(req, reader, offset, size))

    async def _read(self, req: Request, reader: Reader, offset: int, size: int) -> None:
        _data(req, await reader.read(offset, size))

    def release(self, req: Request, nodeid: int, fh: int) -> None:
        self._close(fh)
        reply.error(req, 0)

    def _close(self, fh: int) -> None:
        handle = self._handles.pop(fh, None)
        if isinstance(handle, Reader):
            handle.close()

    # --- directories --------------------------------------------------------------------------------------------

    def opendir(self, req: Request, nodeid: int, flags: int) -> None:
        node = self._node(req, nodeid)
        if node is None:
            return
        self.tree.walk.note(node)
        if self.tree.listed(node):
            self._opened_directory(req, node)
        else:
            self._spawn(req, self._opendir(req, node))

    async def _opendir(self, req: Request, node: Node) -> None:
        await self.tree.refresh_listing(node)
        self._opened_directory(req, node)

    def _opened_directory(self, req: Request, node: Node) -> None:
        fh = next(self._numbers)
        self._handles[fh] = OpenDirectory(node, list(node.children.values()))
        if not reply.opened(req, fh):
            self._close(fh)
        self.tree.walk.served()

    def readdir(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None:
        self._readdir(req, fh, size, offset, plus=False)

    def readdirplus(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None:
        self._readdir(req, fh, size, offset, plus=True)

    def _readdir(self, req: Request, fh: int, size: int, offset: int, *, plus: bool) -> None:
        directory = self._handles[fh]
        assert isinstance(directory, OpenDirectory)
        buffer = DirectoryBuffer(size)
        node, children = directory.node, directory.children
        given: list[Node] = []
        for position in range(offset, len(children) + 2):
            if position < 2:
                shown = node if position == 0 else node.parent or node
                name, held = (b".", b"..")[position], False
            else:
                shown = children[position - 2]
                name = shown.name
                held = plus and not shown.stale and shown.pending is None
            if not plus:
                added = buffer.add_plain(req, name, self._file_attributes(shown), position + 1)
            elif held:
                added = buffer.add(req, name, self._entry_of(shown), position + 1)
            else:
                added = buffer.add(req, name, Entry(0, self._file_attributes(shown), 0.0, 0.0), position + 1)
            if not added:
                break
            if held:
                self.tree.hold(shown)
                given.append(shown)
        if not buffer.reply(req):
            for shown in given:
                self.tree.forget(shown.id, 1)

    def releasedir(self, req: Request, nodeid: int, fh: int) -> None:
        self._close(fh)
        reply.error(req, 0)

    # --- the rest -------------------------------------------------------------------------------------------------

    def statfs(self, req: Request, nodeid: int) -> None:
        self._spawn(req, self._statfs(req))

    async def _statfs(self, req: Request) -> None:
        known = self._fs[0] if self._fs is not None else None
        if known is None or asyncio.get_running_loop().time() - known > FS_SECONDS:
            await self.tree.ask(("room", self.tree.root.path), self._ask_for_room(), known=known)
        stats = self._fs[1] if self._fs is not None else None
        if stats is None:
            reply.statfs(req, FsAttributes(block_size=4096, fragment=4096, name_max=LONGEST_NAME))
            return
        reply.statfs(
            req,
            FsAttributes(
                block_size=stats.block_size,
                fragment=stats.fragment,
                blocks=stats.blocks,
                free=stats.free,
                available=stats.available,
                files=stats.files,
                files_free=stats.files_free,
                name_max=stats.name_max,
            ),
        )

    async def _ask_for_room(self) -> None:
        now = asyncio.get_running_loop().time()
        self._fs = now, await self.remote.statvfs(self.tree.root.path)

    def getxattr(self, req: Request, nodeid: int, name: bytes, size: int) -> None:
        if not name.startswith(b"user."):
            # with ENODATA, `ls -l` asks for an ACL and a security label again for each file of a directory
            reply.error(req, errno.EOPNOTSUPP)
            return
        node = self._node(req, nodeid)
        if node is None:
            return
        if node.kind is not Kind.FILE or name not in xattrs.NAMES:
            reply.error(req, errno.ENODATA)
            return
        self._spawn(req, self._getxattr(req, node, name, size))

    async def _getxattr(self, req: Request, node: Node, name: bytes, size: int) -> None:
        reply.xattr(req, await xattrs.value(self.tree, self.fetcher, node, name), size)

    def listxattr(self, req: Request, nodeid: int, size: int) -> None:
        reply.xattr(req, b"", size)  # `cp -a`, `rsync -X` and `tar --xattrs` would give ours to their copies

    async def aclose(self) -> None:
        """Answer what still waits, and close all handles."""
        self._closing = True
        await self.siblings.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for fh in list(self._handles):
            self._close(fh)

    # --- answers --------------------------------------------------------------------------------------------------

    def _node(self, req: Request, nodeid: int) -> Node | None:
        node = self.tree.nodes.get(nodeid)
        if node is None:
            reply.error(req, errno.ESTALE)
        return node

    def _spawn(self, req: Request, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._bounded(req, work))
        pid = self._tasks[task] = caller(req).pid

        def interrupted() -> None:
            if signals.ends_a_call(pid):
                task.cancel()
            elif not task.done():
                # the kernel tells of a request's first signal only
                task.get_loop().call_later(LOOK_AGAIN, interrupted)

        def over(task: asyncio.Task[None]) -> None:
            del self._tasks[task]
            forget_interrupt(req, interrupted)
            if task.cancelled():  # before its first step, so that it did not answer
                work.close()
                reply.error(req, self._cancelled())

        task.add_done_callback(over)
        on_interrupt(req, interrupted)

    def _cancelled(self) -> int:
        """The errno of a request whose task was cancelled."""
        return errno.ENOTCONN if self._closing else errno.EINTR

    async def _bounded(self, req: Request, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which answers the request, within the deadline; answer its failure otherwise."""
        try:
            async with asyncio.timeout(self.timeout):
                await work
        except asyncio.CancelledError:
            reply.error(req, self._cancelled())
        except (errors.ArtisyncError, OSError) as error:
            log.debug("request failed: %s: %s", type(error).__name__, error)
            reply.error(req, errno_of(error))
        except Exception:
            log.exception("request failed")
            reply.error(req, errno.EIO)

    def _absent(self, req: Request, directory: Node) -> None:
        """The name is not there: let the kernel remember that for as long as the listing is fresh."""
        seconds = self.tree.absent_for(directory)
        if seconds > 0:
            reply.entry(req, Entry(nodeid=0, attributes=_NOTHING, attr_timeout=0.0, entry_timeout=seconds))
        else:
            reply.error(req, errno.ENOENT)

    def _entry(self, req: Request, node: Node) -> None:
        self.tree.hold(node)
        entry = self._entry_of(node)
        if not reply.entry(req, entry):
            self.tree.forget(node.id, 1)
        self.tree.list_soon(node)  # a name in it is asked for next

    def _entry_of(self, node: Node) -> Entry:
        seconds = self.tree.valid_for(node)
        return Entry(
            nodeid=node.id,
            attributes=self._file_attributes(node),
            attr_timeout=seconds,
            entry_timeout=seconds,
        )

    def _attributes(self, req: Request, node: Node) -> None:
        reply.attributes(req, self._file_attributes(node), self.tree.valid_for(node))

    def _file_attributes(self, node: Node) -> FileAttributes:
        attributes = node.attributes
        if node.kind is Kind.DIRECTORY:
            size, links = 4096, 1  # with 2, `find` would take it for one without subdirectories
        elif node.kind is Kind.LINK:
            size, links = len(node.target), 1
        else:
            size, links = attributes.size, 1
        return FileAttributes(
            ino=node.ino,
            mode=attributes.mode & ~0o222 if not stat.S_ISLNK(attributes.mode) else attributes.mode,
            nlink=links,
            uid=self.uid,
            gid=self.gid,
            size=size,
            mtime=attributes.mtime,
        )


_NOTHING = FileAttributes(ino=0, mode=0, nlink=0, uid=0, gid=0, size=0, mtime=0)


def _data(req: Request, pieces: list[Piece]) -> None:
    reply.memory(req, [(block.address(a), b - a) for block, a, b in pieces])
