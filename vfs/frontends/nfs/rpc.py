"""ONC RPC version 2 over a byte stream (RFC 5531): records, calls, and the heads of replies. No I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from vfs.frontends.nfs.xdr import Malformed, Packer, Unpacker

MOST_RECORD = 128 << 10
"""Bytes of a call. The largest is a WRITE of the size that we announce."""
_MOST_AUTH = 400
"""Bytes of a credential or a verifier (RFC 5531, section 8.2)."""
_LAST = 1 << 31
_MARK = struct.Struct(">I")

RPC_VERSION = 2
CALL, REPLY = 0, 1
ACCEPTED, DENIED = 0, 1
AUTH_NONE, AUTH_SYS = 0, 1


class Accept(IntEnum):
    """What became of a call that was accepted (`accept_stat`)."""

    SUCCESS = 0
    PROG_UNAVAIL = 1
    PROG_MISMATCH = 2
    PROC_UNAVAIL = 3
    GARBAGE_ARGS = 4
    SYSTEM_ERR = 5


class Auth(IntEnum):
    """Why a caller is refused (`auth_stat`)."""

    BADCRED = 1
    TOOWEAK = 5


class RecordStream:
    """Assembles the records of one connection from the bytes that it receives.

    Memory is bounded by one record and the chunk that is fed. After `Malformed` it is of no more use.
    """

    def __init__(self) -> None:
        self._input = bytearray()
        self._record = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a record has begun and not ended."""
        return bool(self._input or self._record)

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes. Raises `Malformed` for one that is too long, before it is received."""
        self._input += data
        whole: list[bytes] = []
        at = 0
        while len(self._input) - at >= 4:
            (mark,) = _MARK.unpack_from(self._input, at)
            size = mark & ~_LAST
            if len(self._record) + size > MOST_RECORD:
                raise Malformed(f"a record of more than {MOST_RECORD} bytes")
            if len(self._input) - at - 4 < size:
                break
            self._record += self._input[at + 4 : at + 4 + size]
            at += 4 + size
            if mark & _LAST:
                whole.append(bytes(self._record))
                self._record.clear()
        del self._input[:at]
        return whole


@dataclass(slots=True)
class RpcCall:
    """A call, its arguments not read yet."""

    xid: int
    program: int
    version: int
    procedure: int
    uid: int | None
    """The caller's user id, as the client tells it; None: it tells none."""
    arguments: Unpacker


class Denied(Exception):
    """The call is answered with `reply`, and nothing else is done."""

    def __init__(self, reply: Packer) -> None:
        super().__init__()
        self.reply = reply


def parse(record: bytes) -> RpcCall:
    """The call in a record.

    Raises `Denied` for what gets an answer, `Malformed` for what is no call: the connection is of no more use.
    """
    head = Unpacker(record)
    xid, kind = head.u32(), head.u32()
    if kind != CALL:
        raise Malformed("a reply where a call was expected")
    if head.u32() != RPC_VERSION:
        raise Denied(Packer().u32(xid, REPLY, DENIED, 0, RPC_VERSION, RPC_VERSION))
    program, version, procedure = head.u32(), head.u32(), head.u32()
    try:
        flavor, credential = head.u32(), head.opaque(_MOST_AUTH)
        head.u32()
        head.opaque(_MOST_AUTH)
        uid = _uid(credential) if flavor == AUTH_SYS else None
    except Malformed:
        raise Denied(refused(xid, Auth.BADCRED)) from None
    return RpcCall(xid, program, version, procedure, uid, head)


def _uid(credential: bytes) -> int:
    fields = Unpacker(credential)
    fields.u32()
    fields.opaque(255)
    return fields.u32()


def refused(xid: int, why: Auth) -> Packer:
    """The reply to a caller who did not say well enough who it is."""
    return Packer().u32(xid, REPLY, DENIED, 1, why)


def accepted(xid: int, outcome: Accept) -> Packer:
    """The head of a reply to a call that was accepted; results follow a SUCCESS, the versions a PROG_MISMATCH."""
    return Packer().u32(xid, REPLY, ACCEPTED, AUTH_NONE, 0, outcome)


def mark(size: int) -> bytes:
    """The record mark of a reply of `size` bytes, sent as one fragment."""
    return _MARK.pack(size | _LAST)
