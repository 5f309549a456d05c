"""SFTP version 3 without I/O: requests as bytes, and what single replies say; every length is checked.

Sources: draft-ietf-secsh-filexfer-02 (numbers in brackets are its sections), OpenSSH's PROTOCOL, section 4.

Threads: the functions are pure.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from vfs.base import errors
from vfs.base.printable import printable
from vfs.remote.api import LONGEST_NAME, Attributes, DirEntry

VERSION_NUMBER = 3
MAX_PACKET = 256 * 1024
"""The longest packet that OpenSSH sends or takes (SFTP_MAX_MSG_LENGTH), without its length field."""
MAX_READ = 255 * 1024
"""Bytes of one READ at most, as `limits@openssh.com` of OpenSSH allows."""
DEFAULT_READ = 32 * 1024
"""Bytes that every server answers in one piece [section 3: packets of 34000 bytes must be supported]."""
MAX_HANDLE = 256
"""The longest handle [6.3]."""
MAX_SIZE = 2**63 - 1
"""The largest file offset of Linux."""


class PacketType(IntEnum):
    """Packet types [section 3]."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REALPATH = 16
    STAT = 17
    READLINK = 19
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Code(IntEnum):
    """Status codes [section 7]."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class Status(NamedTuple):
    """What an SSH_FXP_STATUS says; `message` is the server's own words, printable and bounded."""

    code: int
    message: str


_ERRORS: dict[int, type[errors.RemoteError]] = {
    Code.NO_SUCH_FILE: errors.NoSuchPath,
    Code.PERMISSION_DENIED: errors.AccessDenied,
    Code.OP_UNSUPPORTED: errors.Unsupported,
}


_LONG_PATH = 1023
"""Bytes that other systems take."""


def too_long(path: bytes) -> bool:
    """Whether a server's system may refuse the path for its length."""
    return len(path) > _LONG_PATH or len(path.rpartition(b"/")[2]) > LONGEST_NAME


def error_of(status: Status, about: bytes) -> errors.RemoteError:
    """The exception for a status that is not OK, about the path `about`."""
    kind = _ERRORS.get(status.code, errors.ServerFailure)
    if status.code == Code.BAD_MESSAGE and too_long(about):  # as OpenSSH's server says ENAMETOOLONG
        kind = errors.NameTooLong
    words = status.message or f"status {status.code}"
    return kind(f"{about.decode(errors='backslashreplace')}: {words}")


# --- requests ---------------------------------------------------------------------------------------------

_HEAD = struct.Struct(">IBII")
_READ_TAIL = struct.Struct(">QI")
FOR_READING = b"\0\0\0\1\0\0\0\0"
"""The tail of an OPEN: SSH_FXF_READ, and no attributes [6.3]."""


def request(kind: PacketType, request_id: int, text: bytes, tail: bytes = b"") -> bytes:
    """A request whose body is one string (a path or a handle) and then `tail`."""
    return _HEAD.pack(9 + len(text) + len(tail), kind, request_id, len(text)) + text + tail


def read(request_id: int, handle: bytes, offset: int, size: int) -> bytes:
    """SSH_FXP_READ of `size` bytes from `offset` [6.4]."""
    return request(PacketType.READ, request_id, handle, _READ_TAIL.pack(offset, size))


def extended(request_id: int, name: bytes, path: bytes | None = None) -> bytes:
    """SSH_FXP_EXTENDED with a path, or with nothing, as its data [section 8]."""
    tail = b"" if path is None else struct.pack(">I", len(path)) + path
    return request(PacketType.EXTENDED, request_id, name, tail)


# --- parts of replies -------------------------------------------------------------------------------------

U32 = struct.Struct(">I")
_USUAL_ATTRS = struct.Struct(">IQIIIII")
_SIZE, _UIDGID, _PERMISSIONS, _TIMES, _EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000
_USUAL = _SIZE | _UIDGID | _PERMISSIONS | _TIMES
_KNOWN = _USUAL | _EXTENDED
_TELLING = _SIZE | _PERMISSIONS | _TIMES
UNTOLD = Attributes(0)
"""The attributes of a name in a listing that are to be asked for with LSTAT."""


def _u32(packet: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(packet):
        raise errors.ProtocolViolation("a number runs over the end of its packet")
    return U32.unpack_from(packet, at)[0], at + 4


def _string(packet: bytes, at: int) -> tuple[bytes, int]:
    length, at = _u32(packet, at)
    end = at + length
    if end > len(packet):
        raise errors.ProtocolViolation(f"a string of {length} bytes runs over the end of its packet")
    return packet[at:end], end


def _end(packet: bytes, at: int) -> None:
    if at != len(packet):
        raise errors.ProtocolViolation(f"{len(packet) - at} bytes too many at the end of a packet")


def _attributes(packet: bytes, at: int) -> tuple[Attributes, int]:
    """ATTRS [section 5]."""
    if at + 32 <= len(packet):
        flags, size, uid, gid, mode, _, mtime = _USUAL_ATTRS.unpack_from(packet, at)
        if flags == _USUAL:
            if size > MAX_SIZE:
                raise errors.ProtocolViolation(f"a file size of {size}")
            return Attributes(mode, size, mtime, uid, gid), at + 32
    flags, at = _u32(packet, at)
    if flags & ~_KNOWN:
        raise errors.ProtocolViolation(f"attributes of an unknown kind ({flags:#x})")
    size = uid = gid = mode = mtime = 0
    if flags & _SIZE:
        high, at = _u32(packet, at)
        low, at = _u32(packet, at)
        size = high << 32 | low
        if size > MAX_SIZE:
            raise errors.ProtocolViolation(f"a file size of {size}")
    if flags & _UIDGID:
        uid, at = _u32(packet, at)
        gid, at = _u32(packet, at)
    if flags & _PERMISSIONS:
        mode, at = _u32(packet, at)
    if flags & _TIMES:
        _, at = _u32(packet, at)
        mtime, at = _u32(packet, at)
    if flags & _EXTENDED:
        count, at = _u32(packet, at)
        if count > (len(packet) - at) // 8:
            raise errors.ProtocolViolation(f"{count} extended attributes in one packet")
        for _ in range(2 * count):
            _, at = _string(packet, at)
    return Attributes(mode, size, mtime, uid, gid), at


def words(text: bytes) -> str:
    """A server's text, made fit for a terminal and a log."""
    return printable(text[:200].decode(errors="replace"))


# Each of these decodes one type of reply; byte 0 is the type and 1 to 4 the id.


def _status(packet: bytes) -> Status:
    code, at = _u32(packet, 5)
    if at == len(packet):  # some servers leave the words out
        return Status(code, "")
    message, at = _string(packet, at)
    if at < len(packet):
        _, at = _string(packet, at)
    _end(packet, at)
    return Status(code, words(message))


def _handle(packet: bytes) -> bytes:
    handle, at = _string(packet, 5)
    _end(packet, at)
    if len(handle) > MAX_HANDLE:
        raise errors.ProtocolViolation(f"a handle of {len(handle)} bytes")
    return handle


def _attrs(packet: bytes) -> Attributes:
    attributes, at = _attributes(packet, 5)
    _end(packet, at)
    return attributes


def _names(packet: bytes) -> list[DirEntry]:
    """The names of a listing. Attributes that the server leaves out, or that do not tell a name's kind, are `UNTOLD`."""
    try:
        return _entries(packet, with_attributes=True)
    except errors.ProtocolViolation:
        return _entries(packet, with_attributes=False)


def _entries(packet: bytes, *, with_attributes: bool) -> list[DirEntry]:
    count, at = _u32(packet, 5)
    if count > (len(packet) - at) // 8:
        raise errors.ProtocolViolation(f"{count} names in a packet of {len(packet)} bytes")
    entries = []
    for _ in range(count):
        name, at = _string(packet, at)
        length, at = _u32(packet, at)  # the "long name" for people is skipped
        at += length
        attributes = UNTOLD
        if with_attributes:
            flags, _ = _u32(packet, at)
            attributes, at = _attributes(packet, at)
            if flags & _TELLING != _TELLING:
                attributes = UNTOLD
        entries.append(DirEntry(name, attributes))
    _end(packet, at)
    return entries


def _version(packet: bytes) -> dict[bytes, bytes]:
    """The server's extensions, and their data [section 4]."""
    number, at = _u32(packet, 1)
    if number != VERSION_NUMBER:
        raise errors.ProtocolViolation(f"the server speaks SFTP version {number}, not {VERSION_NUMBER}")
    extensions: dict[bytes, bytes] = {}
    while at < len(packet):
        name, at = _string(packet, at)
        extensions[name], at = _string(packet, at)
    return extensions


def parse_limits(data: bytes) -> tuple[int, int, int, int]:
    """The reply to `limits@openssh.com` (PROTOCOL 4.8): bytes of a packet, a READ and a WRITE, and how many handles; 0: not told.

    Raises `ProtocolViolation`.
    """
    if len(data) != 32:
        raise errors.ProtocolViolation(f"limits of {len(data)} bytes")
    packet, read, write, handles = struct.unpack(">4Q", data)
    return packet, read, write, handles


def parse_statvfs(data: bytes) -> os.statvfs_result:
    """The reply to `statvfs@openssh.com` (PROTOCOL 4.5). Raises `ProtocolViolation`."""
    if len(data) != 88:
        raise errors.ProtocolViolation(f"a statvfs of {len(data)} bytes")
    *figures, fsid, flag, name_max = struct.unpack(">11Q", data)
    return os.statvfs_result((*figures, flag, name_max, fsid))


def _rest(packet: bytes) -> bytes:
    return packet[5:]


Value = bytes | Status | Attributes | list[DirEntry] | dict[bytes, bytes]

_PARSERS: dict[int, Callable[[bytes], Value]] = {
    PacketType.STATUS: _status,
    PacketType.HANDLE: _handle,
    PacketType.NAME: _names,
    PacketType.ATTRS: _attrs,
    PacketType.VERSION: _version,
    PacketType.EXTENDED_REPLY: _rest,
}


def parse(kind: int, packet: bytes) -> Value:
    """The content of a whole reply other than DATA; byte 0 of `packet` is its type. Raises `ProtocolViolation`."""
    return _PARSERS[kind](packet)
