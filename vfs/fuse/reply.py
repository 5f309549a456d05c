"""Answers to FUSE requests. Each request is answered once; an answer returns False when the kernel gave up on it.

libfuse allows replies from any thread; the structures that are filled here are used again, so artisync's rule is: one
thread (the one that processes the session) answers.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812
from collections.abc import Sequence
from dataclasses import dataclass

from vfs.fuse.library import EntryParam, FileInfo, IoVec, Stat, StatVfs, lib

Request = int
"""A `fuse_req_t`."""


@dataclass(slots=True)
class FileAttributes:
    """What `stat` shows. Sizes in bytes, mtime in seconds; blocks of 512 bytes are counted from the size."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: float


@dataclass(slots=True)
class Entry:
    """What a name stands for. `nodeid` 0: it is not there, to be remembered for `entry_timeout` seconds."""

    nodeid: int
    attributes: FileAttributes
    attr_timeout: float
    entry_timeout: float


@dataclass(slots=True)
class FsAttributes:
    """What `statvfs` shows; counts in fragments."""

    block_size: int = 4096
    fragment: int = 4096
    blocks: int = 0
    free: int = 0
    available: int = 0
    files: int = 0
    files_free: int = 0
    name_max: int = 255


_stat = Stat()
_entry = EntryParam()
_open = FileInfo()


def _fill(st: object, attributes: FileAttributes) -> None:
    st.st_ino = attributes.ino  # type: ignore[attr-defined]
    st.st_mode = attributes.mode  # type: ignore[attr-defined]
    st.st_nlink = attributes.nlink  # type: ignore[attr-defined]
    st.st_uid = attributes.uid  # type: ignore[attr-defined]
    st.st_gid = attributes.gid  # type: ignore[attr-defined]
    st.st_size = attributes.size  # type: ignore[attr-defined]
    st.st_blocks = -(-attributes.size // 512)  # type: ignore[attr-defined]
    st.st_blksize = 4096  # type: ignore[attr-defined]  # Python reads so much for a small read after a seek
    seconds = int(attributes.mtime // 1)
    nanoseconds = int((attributes.mtime - seconds) * 1e9)
    for time in (st.st_atimespec, st.st_mtimespec, st.st_ctimespec):  # type: ignore[attr-defined]
        time.tv_sec, time.tv_nsec = seconds, nanoseconds


def _fill_entry(entry: Entry) -> EntryParam:
    _entry.ino = entry.nodeid
    _entry.generation = 0
    _entry.attr_timeout = entry.attr_timeout
    _entry.entry_timeout = entry.entry_timeout
    _fill(_entry.attr, entry.attributes)
    return _entry


def error(req: Request, number: int) -> bool:
    """Fail with an errno; 0 is success without data."""
    return bool(lib.fuse_reply_err(req, number) == 0)


def none(req: Request) -> None:
    """End a request that has no answer (forget)."""
    lib.fuse_reply_none(req)


def entry(req: Request, found: Entry) -> bool:
    """Answer a lookup. When False, the kernel has not taken the reference."""
    return bool(lib.fuse_reply_entry(req, C.byref(_fill_entry(found))) == 0)


def attributes(req: Request, found: FileAttributes, timeout: float) -> bool:
    """Answer a getattr; the kernel may keep it for `timeout` seconds."""
    _fill(_stat, found)
    return bool(lib.fuse_reply_attr(req, C.byref(_stat), timeout) == 0)


def opened(req: Request, fh: int, *, keep_cache: bool = False) -> bool:
    """Answer an open with a handle. When False, there will be no release."""
    info = FileInfo()
    info.fh = fh
    info.keep_cache = keep_cache
    return bool(lib.fuse_reply_open(req, C.byref(info)) == 0)


def data(req: Request, content: bytes) -> bool:
    """Answer with bytes."""
    return bool(lib.fuse_reply_buf(req, content, len(content)) == 0)


def memory(req: Request, pieces: Sequence[tuple[int, int]]) -> bool:
    """Answer with (address, length) pieces of memory, without a copy of ours; the caller keeps them alive meanwhile."""
    if len(pieces) == 1:
        address, length = pieces[0]
        return bool(lib.fuse_reply_buf(req, address, length) == 0)
    vector = (IoVec * max(1, len(pieces)))(*(IoVec(address, length) for address, length in pieces))
    return bool(lib.fuse_reply_iov(req, vector, len(pieces)) == 0)


def text(req: Request, content: bytes) -> bool:
    """Answer a readlink."""
    return bool(lib.fuse_reply_readlink(req, content) == 0)


def xattr_size(req: Request, size: int) -> bool:
    """Answer how many bytes an extended attribute, or the list of their names, has."""
    return bool(lib.fuse_reply_xattr(req, size) == 0)


def statfs(req: Request, found: FsAttributes) -> bool:
    """Answer a statfs."""
    st = StatVfs()
    st.f_bsize, st.f_frsize = found.block_size, found.fragment
    st.f_blocks, st.f_bfree, st.f_bavail = found.blocks, found.free, found.available
    st.f_files, st.f_ffree, st.f_favail = found.files, found.files_free, found.files_free
    st.f_namemax = found.name_max
    return bool(lib.fuse_reply_statfs(req, C.byref(st)) == 0)


class DirectoryBuffer:
    """Collects the entries of one readdir or readdirplus answer of at most `size` bytes."""

    def __init__(self, size: int) -> None:
        self._buffer = C.create_string_buffer(size)
        self._address = C.addressof(self._buffer)
        self._left = size

    def add(self, req: Request, name: bytes, found: Entry, next_offset: int) -> bool:
        """Add an entry with its attributes (readdirplus); False when it does not fit. `nodeid` 0: the name only."""
        _fill_entry(found)
        return self._took(
            lib.fuse_add_direntry_plus(req, self._address, self._left, name, C.byref(_entry), next_offset)
        )

    def add_plain(self, req: Request, name: bytes, found: FileAttributes, next_offset: int) -> bool:
        """Add a name with its inode number and type (readdir); False when it does not fit."""
        _fill(_stat, found)
        return self._took(
            lib.fuse_add_direntry(req, self._address, self._left, name, C.byref(_stat), next_offset)
        )

    def _took(self, size: int) -> bool:
        if size > self._left:
            return False
        self._address += size
        self._left -= size
        return True

    def reply(self, req: Request) -> bool:
        """Answer with what was added; nothing added is the end of the directory."""
        used = len(self._buffer) - self._left
        return bool(lib.fuse_reply_buf(req, C.addressof(self._buffer), used) == 0)
