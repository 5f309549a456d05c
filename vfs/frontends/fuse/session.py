"""One mount: receives requests without blocking and hands them to a handler, by nodeid.

The session belongs to one thread, which watches `fileno()` and calls `process()`; that thread must never look into the
mount itself. A handler answers with the functions of `reply`, now or later. It is never asked to change anything: the kernel
refuses that by itself, as the mount is read-only. A handler that raises is logged, and its request answered `EIO`.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812
import errno
import logging
import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vfs.base import mount_table
from vfs.base.errors import MountError
from vfs.frontends import mountpoint as mountpoints
from vfs.frontends.fuse import reply, requests
from vfs.frontends.fuse.library import (
    NODEID,
    Args,
    Callbacks,
    ConnInfo,
    FileInfo,
    ForgetData,
    P,
    RequestBuffer,
    complaints,
    free,
    lib,
    new_session,
    waiting,
)
from vfs.frontends.fuse.operations import Operations
from vfs.frontends.fuse.requests import Request, begin

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Requests received before others have their turn on the loop."""
MAX_BACKGROUND = 256
"""The kernel's readahead requests under way; with its default of 12, slow ones stall everybody's."""
CONGESTION = 192

_FH = FileInfo.fh.offset


class FuseSession:
    """A FUSE session for `handler` at `mountpoint`; `options` are mount options such as `fsname=…`.

    Raises MountError when libfuse does not know an option.
    """

    def __init__(self, handler: Operations, mountpoint: Path, options: Sequence[str]) -> None:
        self.handler = handler
        self.mountpoint = mountpoint
        self._callbacks: list[Any] = []
        self._operations = self._make_operations()
        words = [b"fuse", b"-o", ",".join(("ro", *options)).encode(errors="surrogateescape")]
        argv = (C.c_char_p * len(words))(*words)
        args = Args(len(words), C.cast(argv, C.POINTER(C.c_char_p)), 0)
        complaints.clear()
        self._session = new_session(args, self._operations)
        if self._session is None:
            raise MountError(f"libfuse rejects the mount options {','.join(options)}{_reasons()}")
        self._buffer = RequestBuffer()
        self._mounted = False
        self._fd = -1
        self.device = ""
        """The mount's number in the mount table."""

    def mount(self) -> None:
        """Mount; requests queue from now on. Raises MountError."""
        complaints.clear()
        if waiting.fuse_session_mount(self._session, os.fsencode(self.mountpoint)) != 0:
            raise MountError(f"{self.mountpoint} cannot be mounted{_reasons()}")
        self._mounted = True
        self._fd = int(lib.fuse_session_fd(self._session))
        os.set_blocking(self._fd, False)
        found = mountpoints.mount_info(self.mountpoint)
        self.device = "" if found is None else found.device

    def fileno(self) -> int:
        """The descriptor that is readable when requests wait, and when the mount is gone; valid until `destroy`."""
        return self._fd

    def process(self) -> bool:
        """Receive and dispatch some requests, without blocking. False once the mount is gone."""
        if not self._mounted:
            return False
        session, buffer = self._session, C.byref(self._buffer)
        for _ in range(AT_ONCE):
            size = lib.fuse_session_receive_buf(session, buffer)
            if size == -errno.EAGAIN:
                return True
            if size == -errno.EINTR:
                continue
            if size <= 0:
                if size < 0:
                    log.error("the FUSE device cannot be read: %s", os.strerror(-size))
                return False
            lib.fuse_session_process_buf(session, buffer)
        return True

    def forget_attributes(self, nodeid: int) -> None:
        """Have the kernel ask for a node's attributes before it uses them again; its pages stay. From any thread that is
        not inside a request of libfuse's own loop: with a negative offset no page is waited for (fuse_lowlevel.h)."""
        if self._mounted:
            lib.fuse_lowlevel_notify_inval_inode(self._session, nodeid, -1, 0)

    def destroy(self) -> None:
        """Unmount, and free what libfuse holds. Idempotent; answers that come later do nothing.

        Programs that wait for an answer, or still have files open, get errors. Stop watching `fileno()` first: libfuse closes
        it. May block while the helper program runs.
        """
        session, self._session = self._session, None
        if session is None:
            return
        if self._mounted:
            self._mounted = False
            for req in requests.unanswered():
                reply.error(req, errno.ENOTCONN)
            self._leave()
            self._fd = -1
            waiting.fuse_session_unmount(session)
        waiting.fuse_session_destroy(session)
        if self._buffer.mem:
            free(self._buffer.mem)

    def _leave(self) -> None:
        """Unmount what was moved with a directory above it; libfuse goes by the path, where another mount may be now."""
        place, poll = mount_table.present(self.mountpoint, self.device), select.poll()
        poll.register(self._fd, 0)
        if place != self.mountpoint and not poll.poll(0):  # else it is unmounted: its number may be another's
            with suppress(MountError):
                mountpoints.unmount(place, force=True)

    # --- callbacks ------------------------------------------------------------------------------------------------

    def _make_operations(self) -> Callbacks:
        """The callbacks, with the arguments that `fuse_lowlevel.h` has.

        Without `access`, the kernel goes by the modes alone. Without `readdir`, it always asks for attributes with the names.
        """
        handler = self.handler
        served: dict[str, tuple[Any, ...]] = {
            "lookup": (handler.lookup, NODEID, C.c_char_p),
            "forget": (self._forget, NODEID, C.c_uint64),
            "forget_multi": (self._forget_multi, C.c_size_t, C.POINTER(ForgetData)),
            "getattr": (_without_info(handler.getattr), NODEID, P),
            "readlink": (handler.readlink, NODEID),
            "open": (_without_info(handler.open), NODEID, P),
            "read": (_with_handle(handler.read), NODEID, C.c_size_t, C.c_int64, P),
            "release": (_with_handle(handler.release), NODEID, P),
            "opendir": (_without_info(handler.opendir), NODEID, P),
            "readdirplus": (_with_handle(handler.readdirplus), NODEID, C.c_size_t, C.c_int64, P),
            "releasedir": (_with_handle(handler.releasedir), NODEID, P),
            "statfs": (handler.statfs, NODEID),
            "getxattr": (handler.getxattr, NODEID, C.c_char_p, C.c_size_t),
            "listxattr": (handler.listxattr, NODEID, C.c_size_t),
        }
        operations = Callbacks(init=self._callback(_init, C.POINTER(ConnInfo)))
        for name, (function, *arguments) in served.items():
            setattr(operations, name, self._callback(self._served(function), *arguments))
        return operations

    def _callback(self, function: Callable[..., None], *arguments: Any) -> int | None:
        callback = C.CFUNCTYPE(None, P, *arguments)(function)
        self._callbacks.append(callback)
        return C.cast(callback, P).value

    def _served(self, method: Callable[..., None]) -> Callable[[int], None]:
        """A callback that lets no exception vanish into C, and no request stay without an answer because of one."""

        def call(address: int, *arguments: Any) -> None:
            req = begin(address)
            try:
                method(req, *arguments)
            except Exception:
                log.exception("a request could not be served")
                reply.error(req, errno.EIO)

        return call

    def _forget(self, req: Request, nodeid: int, count: int) -> None:
        reply.none(req)
        self.handler.forget(nodeid, count)

    def _forget_multi(self, req: Request, count: int, forgets: Any) -> None:
        pairs = [(forgets[i].ino, forgets[i].nlookup) for i in range(count)]
        reply.none(req)
        for nodeid, lookups in pairs:
            self.handler.forget(nodeid, lookups)


def _with_handle(method: Callable[..., None]) -> Callable[..., None]:
    """The method, given the handle in place of its last argument, a pointer to `fuse_file_info`."""

    def call(req: Request, *arguments: Any) -> None:
        method(req, *arguments[:-1], C.c_uint64.from_address(arguments[-1] + _FH).value)

    return call


def _without_info(method: Callable[[Request, int], None]) -> Callable[..., None]:
    return lambda req, nodeid, _info: method(req, nodeid)


def _init(_userdata: Any, conn: Any) -> None:
    info = conn.contents
    info.max_background = MAX_BACKGROUND
    info.congestion_threshold = CONGESTION
    # max_readahead stands at what the kernel offers


def _reasons() -> str:
    return f": {'; '.join(complaints)}" if complaints else ""
