"""One mount: receives requests without blocking and hands them to a handler, by nodeid.

The session belongs to one thread, which watches `fileno()` and calls `process()`. A handler answers with the functions
of `reply`, now or later. Everything that would change the file system is answered `EROFS` here.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812
import errno
import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from vfs.errors import MountError
from vfs.fuse import reply
from vfs.fuse.library import (
    NODEID,
    OPERATIONS,
    Args,
    Buffer,
    ConnInfo,
    FileInfoPointer,
    ForgetData,
    Operations,
    P,
    lib,
)
from vfs.fuse.reply import Request

log = logging.getLogger(__name__)

MAX_BACKGROUND = 256
"""The kernel's readahead requests under way; with its default of 12, slow ones stall everybody's."""
CONGESTION = 192
READDIRPLUS, READDIRPLUS_AUTO = 1 << 13, 1 << 14
PARALLEL_DIROPS = 1 << 18
WANTED = (1 << 0) | (1 << 12) | READDIRPLUS | PARALLEL_DIROPS
"""FUSE_CAP_ASYNC_READ, AUTO_INVAL_DATA, READDIRPLUS and PARALLEL_DIROPS, as libfuse numbers them."""


class Handler(Protocol):
    """What a file system does. Each method answers `req` once, now or later, by the functions of `reply`."""

    def lookup(self, req: Request, parent: int, name: bytes) -> None: ...
    def forget(self, nodeid: int, count: int) -> None: ...
    def getattr(self, req: Request, nodeid: int, fh: int | None) -> None: ...
    def readlink(self, req: Request, nodeid: int) -> None: ...
    def access(self, req: Request, nodeid: int, mask: int) -> None: ...
    def open(self, req: Request, nodeid: int, flags: int) -> None: ...
    def read(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None: ...
    def release(self, req: Request, nodeid: int, fh: int) -> None: ...
    def opendir(self, req: Request, nodeid: int, flags: int) -> None: ...
    def readdir(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None: ...
    def readdirplus(self, req: Request, nodeid: int, fh: int, size: int, offset: int) -> None: ...
    def releasedir(self, req: Request, nodeid: int, fh: int) -> None: ...
    def statfs(self, req: Request, nodeid: int) -> None: ...
    def getxattr(self, req: Request, nodeid: int, name: bytes, size: int) -> None: ...
    def listxattr(self, req: Request, nodeid: int, size: int) -> None: ...


_READS: dict[str, tuple[Any, ...]] = {
    "lookup": (NODEID, C.c_char_p),
    "forget": (NODEID, C.c_uint64),
    "forget_multi": (C.c_size_t, C.POINTER(ForgetData)),
    "getattr": (NODEID, FileInfoPointer),
    "readlink": (NODEID,),
    "access": (NODEID, C.c_int),
    "open": (NODEID, FileInfoPointer),
    "read": (NODEID, C.c_size_t, C.c_int64, FileInfoPointer),
    "release": (NODEID, FileInfoPointer),
    "flush": (NODEID, FileInfoPointer),
    "opendir": (NODEID, FileInfoPointer),
    "readdir": (NODEID, C.c_size_t, C.c_int64, FileInfoPointer),
    "readdirplus": (NODEID, C.c_size_t, C.c_int64, FileInfoPointer),
    "releasedir": (NODEID, FileInfoPointer),
    "statfs": (NODEID,),
    "getxattr": (NODEID, C.c_char_p, C.c_size_t),
    "listxattr": (NODEID, C.c_size_t),
}
"""What callbacks take after the request, from `fuse_lowlevel.h`."""

_WRITES: dict[str, tuple[Any, ...]] = {
    "setattr": (NODEID, P, C.c_int, P),
    "mknod": (NODEID, C.c_char_p, C.c_uint, C.c_uint64),
    "mkdir": (NODEID, C.c_char_p, C.c_uint),
    "unlink": (NODEID, C.c_char_p),
    "rmdir": (NODEID, C.c_char_p),
    "symlink": (C.c_char_p, NODEID, C.c_char_p),
    "rename": (NODEID, C.c_char_p, NODEID, C.c_char_p, C.c_uint),
    "link": (NODEID, NODEID, C.c_char_p),
    "write": (NODEID, C.c_char_p, C.c_size_t, C.c_int64, P),
    "setxattr": (NODEID, C.c_char_p, P, C.c_size_t, C.c_int),
    "removexattr": (NODEID, C.c_char_p),
    "create": (NODEID, C.c_char_p, C.c_uint, P),
    "fallocate": (NODEID, C.c_int, C.c_int64, C.c_int64, P),
}


class Session:
    """A FUSE session for `handler` at `mountpoint`; `options` are mount options such as `ro` and `fsname=…`."""

    def __init__(self, handler: Handler, mountpoint: Path, options: Sequence[str]) -> None:
        self.handler = handler
        self.mountpoint = mountpoint
        self._callbacks: list[Any] = []
        self._operations = self._make_operations()
        words = [b"artisync", b"-o", ",".join(options).encode(errors="surrogateescape")]
        argv = (C.c_char_p * len(words))(*words)
        args = Args(len(words), C.cast(argv, C.POINTER(C.c_char_p)), 0)
        self._session = lib.fuse_session_new(
            C.byref(args), C.byref(self._operations), C.sizeof(self._operations), None
        )
        if not self._session:
            raise MountError(f"libfuse does not take the mount options {','.join(options)}")
        self._buffer = Buffer()
        self._mounted = False
        self._fd = -1

    def mount(self) -> None:
        """Mount; requests queue from now on. Raises MountError."""
        if lib.fuse_session_mount(self._session, os.fsencode(self.mountpoint)) != 0:
            raise MountError(f"{self.mountpoint} cannot be mounted (libfuse says why above, or in the log)")
        self._mounted = True
        self._fd = int(lib.fuse_session_fd(self._session))
        os.set_blocking(self._fd, False)

    def fileno(self) -> int:
        """The descriptor that is readable when requests wait."""
        return self._fd

    def process(self, limit: int = 16) -> bool:
        """Receive and dispatch up to `limit` requests, without blocking. False once the mount is gone."""
        session, buffer = self._session, C.byref(self._buffer)
        for _ in range(limit):
            size = lib.fuse_session_receive_buf(session, buffer)
            if size == -errno.EAGAIN:
                return True
            if size == -errno.EINTR:
                continue
            if size <= 0:
                return False
            lib.fuse_session_process_buf(session, buffer)
        return not lib.fuse_session_exited(session)

    def unmount(self) -> None:
        """Unmount; programs that still have files open get errors. Idempotent."""
        if self._mounted:
            self._mounted = False
            lib.fuse_session_unmount(self._session)

    def destroy(self) -> None:
        """Free what libfuse holds. The session must not be used any more."""
        if self._session:
            lib.fuse_session_destroy(self._session)
            self._session = None
            if self._buffer.mem:
                libc = C.CDLL(None)
                libc.free.argtypes = [P]
                libc.free(self._buffer.mem)
                self._buffer.mem = None

    # --- callbacks ------------------------------------------------------------------------------------------------

    def _make_operations(self) -> Operations:
        operations = Operations()
        function: Callable[..., None]
        for name in OPERATIONS:
            if name == "init":
                prototype, function = C.CFUNCTYPE(None, P, C.POINTER(ConnInfo)), _init
            elif name in _READS:
                prototype = C.CFUNCTYPE(None, P, *_READS[name])
                function = _guarded(getattr(self, f"_{name}"))
            elif name in _WRITES:
                prototype, function = C.CFUNCTYPE(None, P, *_WRITES[name]), _refuse
            else:
                continue
            callback = prototype(function)
            self._callbacks.append(callback)
            setattr(operations, name, C.cast(callback, P).value)
        return operations

    def _lookup(self, req: Request, parent: int, name: bytes) -> None:
        self.handler.lookup(req, parent, name)

    def _forget(self, req: Request, nodeid: int, count: int) -> None:
        reply.none(req)
        self.handler.forget(nodeid, count)

    def _forget_multi(self, req: Request, count: int, forgets: Any) -> None:
        pairs = [(forgets[i].ino, forgets[i].nlookup) for i in range(count)]
        reply.none(req)
        for nodeid, lookups in pairs:
            self.handler.forget(nodeid, lookups)

    def _getattr(self, req: Request, nodeid: int, info: Any) -> None:
        self.handler.getattr(req, nodeid, info.contents.fh if info else None)

    def _readlink(self, req: Request, nodeid: int) -> None:
        self.handler.readlink(req, nodeid)

    def _access(self, req: Request, nodeid: int, mask: int) -> None:
        self.handler.access(req, nodeid, mask)

    def _open(self, req: Request, nodeid: int, info: Any) -> None:
        self.handler.open(req, nodeid, info.contents.flags)

    def _read(self, req: Request, nodeid: int, size: int, offset: int, info: Any) -> None:
        self.handler.read(req, nodeid, info.contents.fh, size, offset)

    def _release(self, req: Request, nodeid: int, info: Any) -> None:
        self.handler.release(req, nodeid, info.contents.fh)

    def _flush(self, req: Request, nodeid: int, info: Any) -> None:
        reply.error(req, errno.ENOSYS)  # nothing to flush: the kernel does not ask again

    def _opendir(self, req: Request, nodeid: int, info: Any) -> None:
        self.handler.opendir(req, nodeid, info.contents.flags)

    def _readdir(self, req: Request, nodeid: int, size: int, offset: int, info: Any) -> None:
        self.handler.readdir(req, nodeid, info.contents.fh, size, offset)

    def _readdirplus(self, req: Request, nodeid: int, size: int, offset: int, info: Any) -> None:
        self.handler.readdirplus(req, nodeid, info.contents.fh, size, offset)

    def _releasedir(self, req: Request, nodeid: int, info: Any) -> None:
        self.handler.releasedir(req, nodeid, info.contents.fh)

    def _statfs(self, req: Request, nodeid: int) -> None:
        self.handler.statfs(req, nodeid)

    def _getxattr(self, req: Request, nodeid: int, name: bytes, size: int) -> None:
        self.handler.getxattr(req, nodeid, name, size)

    def _listxattr(self, req: Request, nodeid: int, size: int) -> None:
        self.handler.listxattr(req, nodeid, size)


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """A callback that never lets an exception vanish into C with the request unanswered."""

    @functools.wraps(method)
    def call(req: Request, *arguments: Any) -> None:
        try:
            method(req, *arguments)
        except Exception:
            log.exception("a request could not be served")
            if "forget" not in method.__name__:
                reply.error(req, errno.EIO)

    return call


def _refuse(req: Request, *_: Any) -> None:
    reply.error(req, errno.EROFS)


def _init(_userdata: Any, conn: Any) -> None:
    info = conn.contents
    info.max_background = MAX_BACKGROUND
    info.congestion_threshold = CONGESTION
    info.want = (info.want | (info.capable & WANTED)) & ~READDIRPLUS_AUTO
