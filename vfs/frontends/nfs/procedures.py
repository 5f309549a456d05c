"""The NFS program, version 3 (RFC 1813): every procedure of a read-only server. No I/O: the files are asked for everything.

An answer carries attributes only while they are fresh: a client counts their age from when it gets them.
"""

from __future__ import annotations

import errno
import functools
import itertools
import secrets
import stat
from collections.abc import Callable, Coroutine
from typing import Any

from cachetools import LRUCache

from vfs.base import calls, errors
from vfs.base.errnos import errno_of
from vfs.files.node import Kind, Node
from vfs.frontends.nfs import protocol as p
from vfs.frontends.nfs.files import NfsFiles
from vfs.frontends.nfs.listing import DOT, DOT_DOT, Listing
from vfs.frontends.nfs.programs import Client, Procedure
from vfs.frontends.nfs.protocol import NfsProcedure, NfsStatus
from vfs.frontends.nfs.rpc import Auth, Denied, RpcCall, refused
from vfs.frontends.nfs.tickets import FileHandles
from vfs.frontends.nfs.xdr import Malformed, Packer, Unpacker

MOST_LISTINGS = 16
"""Directories that are listed page by page at a time, as they were when that began."""
_ROOT = 0
"""The user id that may always look: the kernel itself asks by it."""


class Failure(OSError):
    """The procedure fails with this status."""

    def __init__(self, status: NfsStatus) -> None:
        super().__init__(status.name)
        self.status = status


class NfsProgram:
    """`everybody`: whether other users than ours may read."""

    def __init__(self, files: NfsFiles, *, everybody: bool) -> None:
        self._files = files
        self._service = files.service
        self._handles = FileHandles()
        self._everybody = everybody
        self._listings: LRUCache[int, Listing] = LRUCache(MOST_LISTINGS)
        self._fsid = secrets.randbits(63)
        self.procedures: dict[int, Procedure] = {
            NfsProcedure.NULL: self._null,
            **{number: functools.partial(self._refused, number) for number in p.WRITES},
        }
        for number, work in (
            (NfsProcedure.GETATTR, self._getattr),
            (NfsProcedure.LOOKUP, self._lookup),
            (NfsProcedure.ACCESS, self._access),
            (NfsProcedure.READLINK, self._readlink),
            (NfsProcedure.READ, self._read),
            (NfsProcedure.READDIR, self._readdir),
            (NfsProcedure.READDIRPLUS, self._readdirplus),
            (NfsProcedure.FSSTAT, self._fsstat),
            (NfsProcedure.FSINFO, self._fsinfo),
            (NfsProcedure.PATHCONF, self._pathconf),
        ):
            self.procedures[number] = functools.partial(self._guarded, number, work)

    def root(self) -> bytes:
        """The handle of the root."""
        return self.handle(self._service.root)

    def handle(self, node: Node) -> bytes:
        """The handle of a node."""
        return self._handles.of(self._files.number(node))

    # --- around every procedure -----------------------------------------------------------------------------------

    async def _null(self, call: RpcCall, client: Client) -> Packer:
        return Packer()

    async def _refused(self, number: NfsProcedure, call: RpcCall, client: Client) -> Packer:
        return p.failure(number, NfsStatus.ROFS)

    async def _guarded(
        self,
        number: NfsProcedure,
        work: Callable[[Node, Unpacker, int], Coroutine[Any, Any, Packer]],
        call: RpcCall,
        client: Client,
    ) -> Packer:
        """Find the node of the handle, check the caller, and answer within the deadline."""
        handle = call.arguments.opaque(p.MOST_HANDLE)
        if call.uid is None:
            raise Denied(refused(call.xid, Auth.TOOWEAK))
        operation = number.name.lower()
        try:
            node = self._node(handle, client, call.uid)
        except Failure as failure:
            calls.at_once(
                operation, None, p.ERRNOS.get(failure.status, errno.EIO), status=failure.status.name
            )
            return p.failure(number, failure.status)
        try:
            return await self._service.answer(
                calls.Call(operation, node), work(node, call.arguments, call.uid)
            )
        except Malformed:
            raise
        except Failure as failure:
            return p.failure(number, failure.status)
        except (errors.ArtisyncError, OSError) as error:
            number_of_error = error.errno if type(error) is OSError else None
            status = p.STATUS.get(number_of_error or errno_of(error), NfsStatus.IO)
            return p.failure(number, status)

    def _node(self, handle: bytes, client: Client, uid: int) -> Node:
        """The node of a handle, for this user. Raises Failure."""
        nodeid = self._handles.node(handle)
        if nodeid is None:
            raise Failure(NfsStatus.BADHANDLE)
        client.trusted = True
        if not self._everybody and uid not in (self._service.uid, _ROOT):
            raise Failure(NfsStatus.ACCES)
        node = self._files.node(nodeid)
        if node is None or node.stale:
            raise Failure(NfsStatus.STALE)
        return node

    # --- attributes -----------------------------------------------------------------------------------------------

    def _attributes(self, node: Node) -> bytes:
        return p.fattr(self._service.shown(node), fsid=self._fsid, change=self._files.change(node))

    def _known(self, node: Node) -> bytes:
        """`post_op_attr`: the attributes if they are fresh."""
        if not self._files.fresh(node):
            return b"\0\0\0\0"
        return b"\0\0\0\1" + self._attributes(node)

    async def _getattr(self, node: Node, _: Unpacker, uid: int) -> Packer:
        await self._files.refresh(node)
        return Packer().u32(NfsStatus.OK).raw(self._attributes(node))

    async def _access(self, node: Node, arguments: Unpacker, uid: int) -> Packer:
        wanted = arguments.u32()
        if not self._files.fresh(node):
            await self._files.refresh(node)
        mode = stat.S_IMODE(self._service.shown(node).mode)
        bits = 7 if uid == _ROOT else mode >> 6 if uid == self._service.uid else mode
        granted = p.READS if bits & 4 else 0
        if node.kind is Kind.DIRECTORY:
            granted |= p.LOOKS if bits & 1 else 0
        else:
            granted |= p.EXECUTES if bits & 1 and (uid != _ROOT or mode & 0o111) else 0
        return Packer().u32(NfsStatus.OK).raw(self._known(node)).u32(wanted & granted)

    async def _readlink(self, node: Node, _: Unpacker, uid: int) -> Packer:
        if node.kind is not Kind.SYMLINK:
            raise Failure(NfsStatus.INVAL)
        return Packer().u32(NfsStatus.OK).raw(self._known(node)).opaque(node.target)

    # --- names ----------------------------------------------------------------------------------------------------

    async def _lookup(self, node: Node, arguments: Unpacker, uid: int) -> Packer:
        name = arguments.opaque(4 * p.MOST_NAME)
        if node.kind is not Kind.DIRECTORY:
            raise Failure(NfsStatus.NOTDIR)
        if len(name) > p.MOST_NAME:
            raise Failure(NfsStatus.NAMETOOLONG)
        if not name or b"/" in name or b"\0" in name:
            raise Failure(NfsStatus.INVAL)
        if name == b".":
            found = node
        elif name == b"..":
            found = node.parent or node
        else:
            found = await self._service.lookup(node, name)
        return (
            Packer()
            .u32(NfsStatus.OK)
            .opaque(self.handle(found))
            .raw(self._known(found))
            .raw(self._known(node))
        )

    async def _readdir(self, node: Node, arguments: Unpacker, uid: int) -> Packer:
        at, _, most = arguments.u64(), arguments.u64(), arguments.u32()
        return await self._page(node, at, most, most, plus=False)

    async def _readdirplus(self, node: Node, arguments: Unpacker, uid: int) -> Packer:
        at, _, names, most = arguments.u64(), arguments.u64(), arguments.u32(), arguments.u32()
        return await self._page(node, at, names, most, plus=True)

    async def _page(self, node: Node, at: int, most_names: int, most: int, *, plus: bool) -> Packer:
        """The entries behind the cookie `at`, as many as fit into `most` bytes, their names into `most_names`."""
        if node.kind is not Kind.DIRECTORY:
            raise Failure(NfsStatus.NOTDIR)
        listing = await self._listing(node, at)
        # cookies stay good, so that the verifier is always the same
        page = Packer().u32(NfsStatus.OK).raw(self._known(node)).u64(0)
        room = min(most, p.MOST_LISTING) - len(page) - 8
        dots = [(DOT, b".", node), (DOT_DOT, b"..", node.parent or node)]
        children = ((cookie, child.name, child) for cookie, child in listing.after(max(at, DOT_DOT)))
        names = taken = 0
        for cookie, name, shown in itertools.chain((dot for dot in dots if dot[0] > at), children):
            entry = Packer().u32(1).u64(shown.ino).opaque(name).u64(cookie)
            names += len(entry)
            if plus:
                self._plus(entry, shown)
            if len(entry) > room - taken or (taken and names > most_names):
                if not taken:
                    raise Failure(NfsStatus.TOOSMALL)
                return page.u32(0, 0)
            page.raw(entry.data)
            taken += len(entry)
        self._listings.pop(node.id, None)
        return page.u32(0, 1)

    def _plus(self, entry: Packer, shown: Node) -> None:
        """Attributes and handle of an entry, unless it has to be looked up anew."""
        if shown.stale or shown.pending is not None:
            entry.u32(0, 0)
        else:
            entry.raw(self._known(shown)).u32(1).opaque(self.handle(shown))

    async def _listing(self, node: Node, at: int) -> Listing:
        """The listing that a client continues behind the cookie `at`, or a fresh one."""
        listing = self._listings.get(node.id) if at else None
        if listing is None:
            listing = self._listings[node.id] = await Listing.of(await self._files.listing(node))
        return listing

    # --- bytes ----------------------------------------------------------------------------------------------------

    async def _read(self, node: Node, arguments: Unpacker, uid: int) -> Packer:
        offset, count = arguments.u64(), min(arguments.u32(), p.MOST_READ)
        if node.kind is not Kind.FILE:
            raise Failure(NfsStatus.ISDIR if node.kind is Kind.DIRECTORY else NfsStatus.INVAL)
        pieces = await self._files.read(node, offset, count)
        if node.stale:
            raise Failure(NfsStatus.STALE)
        size = sum(end - start for _, start, end in pieces)
        end = offset + size >= self._service.shown(node).size
        if size == 0 and count and not end:
            raise Failure(NfsStatus.IO)  # never "no more" where there is more
        reply = Packer().u32(NfsStatus.OK).raw(self._known(node)).u32(size, end, size)
        return reply.last([block.view(start, stop) for block, start, stop in pieces], pieces)

    # --- the file system ------------------------------------------------------------------------------------------

    async def _fsstat(self, node: Node, _: Unpacker, uid: int) -> Packer:
        room = await self._service.statfs()
        head = Packer().u32(NfsStatus.OK).raw(self._known(node))
        sizes = (count * room.f_frsize for count in (room.f_blocks, room.f_bfree, room.f_bavail))
        return head.u64(*sizes, room.f_files, room.f_ffree, room.f_favail).u32(0)

    async def _fsinfo(self, node: Node, _: Unpacker, uid: int) -> Packer:
        reading, writing = (p.MOST_READ, p.MOST_READ, 4096), (p.MOST_WRITE, p.MOST_WRITE, 4096)
        head = Packer().u32(NfsStatus.OK).raw(self._known(node))
        head.u32(*reading, *writing, p.MOST_LISTING).u64((1 << 63) - 1)
        return head.u32(1, 0, p.SYMLINKS | p.HOMOGENEOUS)

    async def _pathconf(self, node: Node, _: Unpacker, uid: int) -> Packer:
        """Links, the longest name, then: no name is cut, owners stay, cases are told apart and kept."""
        head = Packer().u32(NfsStatus.OK).raw(self._known(node))
        return head.u32(1, p.MOST_NAME, 1, 1, 0, 1)
