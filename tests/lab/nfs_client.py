"""An NFS client for tests: builds calls by hand and takes replies apart, over whatever `send` is."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vfs.frontends.nfs.protocol import MOUNT_PROGRAM, NFS_PROGRAM, MountProcedure, NfsProcedure, NfsStatus
from vfs.frontends.nfs.xdr import Packer, Unpacker

Send = Callable[[bytes], Awaitable[bytes]]
"""Sends a call without its record mark, and gives the reply without its own."""


def credential(uid: int | None) -> Packer:
    """Of AUTH_SYS, or of AUTH_NONE for no user; with the verifier behind it."""
    if uid is None:
        return Packer().u32(0, 0, 0, 0)
    body = Packer().u32(1).opaque(b"test").u32(uid, uid, 0)
    return Packer().u32(1).opaque(bytes(body.data)).u32(0, 0)


def call(
    xid: int, program: int, procedure: int, arguments: bytes = b"", *, uid: int | None = 0, version: int = 3
) -> bytes:
    head = Packer().u32(xid, 0, 2, program, version, procedure)
    return bytes(head.raw(credential(uid).data).data) + arguments


def marked(record: bytes, fragment: int = 1 << 30) -> bytes:
    """The record as fragments of at most so many bytes."""
    parts = [record[at : at + fragment] for at in range(0, len(record), fragment)] or [b""]
    marks = [len(part) | (1 << 31 if last else 0) for part, last in zip(parts, _ends(parts), strict=True)]
    return b"".join(struct.pack(">I", mark) + part for mark, part in zip(marks, parts, strict=True))


def _ends(parts: list[bytes]) -> list[bool]:
    return [*[False] * (len(parts) - 1), True]


@dataclass(frozen=True)
class Attributes:
    kind: int
    mode: int
    size: int
    ino: int
    mtime: int
    change: int
    uid: int


def attributes(answer: Unpacker) -> Attributes:
    kind, mode, _, uid, _ = (answer.u32() for _ in range(5))
    size, _ = answer.u64(), answer.u64()
    answer.u64()
    _, ino = answer.u64(), answer.u64()
    _, _, mtime, _, _, change = (answer.u32() for _ in range(6))
    return Attributes(kind, mode, size, ino, mtime, change, uid)


def post(answer: Unpacker) -> Attributes | None:
    return attributes(answer) if answer.u32() else None


class NfsError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(NfsStatus(status).name)
        self.status = NfsStatus(status)


class RpcError(Exception):
    """`words`: the reply from reply_stat on."""

    def __init__(self, words: tuple[int, ...]) -> None:
        super().__init__(words)
        self.words = words


@dataclass(frozen=True)
class Entry:
    name: bytes
    cookie: int
    ino: int
    attributes: Attributes | None = None
    handle: bytes | None = None


class NfsClient:
    """Each method is one procedure; raises `NfsError` and `RpcError`."""

    def __init__(self, send: Send, *, uid: int | None = 0) -> None:
        self._send = send
        self._xids = itertools.count(1)
        self.uid = uid

    async def raw(self, program: int, procedure: int, arguments: bytes = b"", version: int = 3) -> Unpacker:
        """The results of a call that was accepted."""
        xid = next(self._xids)
        reply = await self._send(call(xid, program, procedure, arguments, uid=self.uid, version=version))
        words = struct.unpack(f">{len(reply) // 4}I", reply)
        assert words[:2] == (xid, 1)
        if words[2:6] != (0, 0, 0, 0):
            raise RpcError(words[2:])
        return Unpacker(reply[24:])

    async def nfs(self, procedure: NfsProcedure, arguments: Packer) -> Unpacker:
        answer = await self.raw(NFS_PROGRAM, procedure, bytes(arguments.data))
        status = answer.u32()
        if status:
            raise NfsError(status)
        return answer

    async def mount(self, path: bytes) -> bytes:
        answer = await self.raw(MOUNT_PROGRAM, MountProcedure.MNT, bytes(Packer().opaque(path).data))
        status = answer.u32()
        if status:
            raise NfsError(status)
        return answer.opaque(64)

    async def getattr(self, handle: bytes) -> Attributes:
        answer = await self.nfs(NfsProcedure.GETATTR, Packer().opaque(handle))
        found = attributes(answer)
        assert answer.left == 0
        return found

    async def lookup(self, handle: bytes, name: bytes) -> tuple[bytes, Attributes | None]:
        answer = await self.nfs(NfsProcedure.LOOKUP, Packer().opaque(handle).opaque(name))
        found, its = answer.opaque(64), post(answer)
        post(answer)
        assert answer.left == 0
        return found, its

    async def access(self, handle: bytes, wanted: int = 0x3F) -> int:
        answer = await self.nfs(NfsProcedure.ACCESS, Packer().opaque(handle).u32(wanted))
        post(answer)
        return answer.u32()

    async def readlink(self, handle: bytes) -> bytes:
        answer = await self.nfs(NfsProcedure.READLINK, Packer().opaque(handle))
        post(answer)
        return answer.opaque(4096)

    async def read(self, handle: bytes, offset: int, count: int) -> tuple[bytes, bool]:
        answer = await self.nfs(NfsProcedure.READ, Packer().opaque(handle).u64(offset).u32(count))
        post(answer)
        size, end = answer.u32(), answer.u32()
        data = answer.opaque(1 << 20)
        assert (len(data), answer.left) == (size, 0)
        return data, bool(end)

    async def whole(self, handle: bytes, step: int = 1 << 20) -> bytes:
        data = b""
        while True:
            more, end = await self.read(handle, len(data), step)
            data += more
            if end:
                return data

    async def page(self, handle: bytes, at: int, *, plus: bool, most: int = 8192) -> tuple[list[Entry], bool]:
        arguments = Packer().opaque(handle).u64(at, 0)
        arguments.u32(most, most) if plus else arguments.u32(most)
        answer = await self.nfs(NfsProcedure.READDIRPLUS if plus else NfsProcedure.READDIR, arguments)
        assert answer.left + 4 <= most
        post(answer)
        answer.u64()
        entries = []
        while answer.u32():
            ino, name, cookie = answer.u64(), answer.opaque(255), answer.u64()
            its = post(answer) if plus else None
            handle_of = answer.opaque(64) if plus and answer.u32() else None
            entries.append(Entry(name, cookie, ino, its, handle_of))
        end = bool(answer.u32())
        assert answer.left == 0
        return entries, end

    async def list(self, handle: bytes, *, plus: bool = False, most: int = 8192) -> list[Entry]:
        entries: list[Entry] = []
        while True:
            page, end = await self.page(handle, entries[-1].cookie if entries else 0, plus=plus, most=most)
            entries += page
            if end:
                return entries
