"""Answers to FUSE requests, from any thread.

The first answer to a request counts. Answers return False when they did not reach the kernel: the request was answered
before, or the kernel has given it up. A `DirectoryBuffer` belongs to one thread; nothing else here keeps state.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812
import errno
import itertools
import os
import struct
from collections.abc import Sequence
from typing import Any

from vfs.files.shown import Shown
from vfs.frontends.fuse.library import EntryParam, FileInfo, Stat, StatVfs, lib, waiting
from vfs.frontends.fuse.requests import Request, claim

MUCH = 64 << 10
"""Bytes of an answer that take the kernel longer to copy than it costs to let go of the interpreter's lock."""

BLOCK_SIZE = 4096
"""What programs take as a good size for reads; Python reads so much for a small read after a seek."""


def _answer(req: Request, function: Any, *arguments: Any) -> bool:
    address = claim(req)
    return bool(address and function(address, *arguments) == 0)


def error(req: Request, number: int) -> bool:
    """Fail with an errno; 0 is success without data."""
    return _answer(req, lib.fuse_reply_err, number)


def none(req: Request) -> None:
    """End a request that has no answer (forget)."""
    _answer(req, lib.fuse_reply_none)


def entry(req: Request, nodeid: int, found: Shown, timeout: float) -> bool:
    """Answer a lookup, which the kernel may keep for `timeout` seconds. `nodeid` 0: there is no such name.

    When True, and `nodeid` is not 0, the kernel holds one more reference to the nodeid.
    """
    param = EntryParam(ino=nodeid, attr_timeout=timeout, entry_timeout=timeout)
    _fill(param.attr, found)
    return _answer(req, lib.fuse_reply_entry, C.byref(param))


def attributes(req: Request, found: Shown, timeout: float) -> bool:
    """Answer a getattr; the kernel may keep it for `timeout` seconds."""
    st = Stat()
    _fill(st, found)
    return _answer(req, lib.fuse_reply_attr, C.byref(st), timeout)


def opened(req: Request, fh: int, *, keep_cache: bool = False) -> bool:
    """Answer an open or opendir with a handle (64 bits, the handler's own). When False, there will be no release.

    `keep_cache`: the kernel keeps the pages that it has of this nodeid.
    """
    info = FileInfo(fh=fh, keep_cache=keep_cache)
    return _answer(req, lib.fuse_reply_open, C.byref(info))


def data(req: Request, content: bytes) -> bool:
    """Answer a read with bytes."""
    return _answer(req, lib.fuse_reply_buf, content, len(content))


def memory(req: Request, pieces: Sequence[tuple[int, int]]) -> bool:
    """Answer with (address, length) pieces of memory, without a copy of ours; the caller keeps them alive meanwhile.

    At most 1000 of them: writev(2) takes 1024.
    """
    library = waiting if sum(length for _, length in pieces) >= MUCH else lib
    if len(pieces) == 1:
        start, length = pieces[0]
        return _answer(req, library.fuse_reply_buf, start, length)
    vector = struct.pack(f"@{2 * len(pieces)}N", *itertools.chain.from_iterable(pieces))  # struct iovec[]
    return _answer(req, library.fuse_reply_iov, vector, len(pieces))


def text(req: Request, content: bytes) -> bool:
    """Answer a readlink."""
    return _answer(req, lib.fuse_reply_readlink, content)


def xattr(req: Request, value: bytes, size: int) -> bool:
    """Answer a getxattr or listxattr that has room for `size` bytes; 0 asks how many there are (getxattr(2))."""
    if size == 0:
        return _answer(req, lib.fuse_reply_xattr, len(value))
    return error(req, errno.ERANGE) if size < len(value) else data(req, value)


def statfs(req: Request, found: os.statvfs_result) -> bool:
    """Answer a statfs."""
    st = StatVfs()
    st.f_bsize, st.f_frsize = found.f_bsize, found.f_frsize
    st.f_blocks, st.f_bfree, st.f_bavail = found.f_blocks, found.f_bfree, found.f_bavail
    st.f_files, st.f_ffree, st.f_favail = found.f_files, found.f_ffree, found.f_favail
    st.f_namemax = found.f_namemax
    return _answer(req, lib.fuse_reply_statfs, C.byref(st))


class DirectoryBuffer:
    """Collects the entries of one readdirplus answer of at most `size` bytes."""

    def __init__(self, size: int) -> None:
        self._buffer = C.create_string_buffer(size)
        self._start = self._address = C.addressof(self._buffer)
        self._left = size
        self._entry = EntryParam()
        self._stat = self._entry.attr

    def add(self, name: bytes, nodeid: int, found: Shown, timeout: float, next_offset: int) -> bool:
        """Add an entry with its attributes, as for `entry`; False when it does not fit.

        Once answered, the kernel holds a reference to its nodeid, except for `.` and `..`. `nodeid` 0: the name only.
        """
        param = self._entry
        param.ino = nodeid
        param.attr_timeout = param.entry_timeout = timeout
        _fill(self._stat, found)
        size = lib.fuse_add_direntry_plus(None, self._address, self._left, name, C.byref(param), next_offset)
        if size > self._left:
            return False
        self._address += size
        self._left -= size
        return True

    def reply(self, req: Request) -> bool:
        """Answer with what was added; nothing added is the end of the directory."""
        return memory(req, ((self._start, self._address - self._start),))


def _fill(st: Any, found: Shown) -> None:
    st.st_ino = found.ino
    st.st_mode = found.mode
    st.st_nlink = found.nlink
    st.st_uid = found.uid
    st.st_gid = found.gid
    st.st_size = found.size
    st.st_blocks = -(-found.size // 512)
    st.st_blksize = BLOCK_SIZE
    seconds = int(found.mtime // 1)
    nanoseconds = int((found.mtime - seconds) * 1e9)
    for time in (st.st_atimespec, st.st_mtimespec, st.st_ctimespec):
        time.tv_sec, time.tv_nsec = seconds, nanoseconds
