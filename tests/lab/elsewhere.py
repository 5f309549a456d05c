"""A pytest plugin (`-p tests.lab.elsewhere`): what only Linux has is not there, as on a Mac.

What the tests themselves look at stays: only calls from a file of `vfs` find nothing below /proc.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vfs

ONLY_LINUX = (
    (os, ("eventfd", "eventfd_read", "eventfd_write", "pidfd_open", "memfd_create", "posix_fallocate")),
    (os, ("O_DIRECT", "O_PATH", "splice")),
    (signal, ("pidfd_send_signal",)),
    (socket, ("SO_PEERCRED", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_QUICKACK")),
    (fcntl, ("F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_OFD_SETLK", "F_ADD_SEALS")),
    (mmap, ("MADV_NOHUGEPAGE", "MADV_HUGEPAGE", "MAP_POPULATE")),
)
OURS = str(Path(vfs.__file__).parent) + os.sep


def _asked_by_us() -> bool:
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(OURS):
        if not frame.f_code.co_filename.endswith(("pathlib.py", "glob.py", "genericpath.py", "posixpath.py")):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def _without_proc(call: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(path: Any = ".", *arguments: Any, **more: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).startswith("/proc") and _asked_by_us():
            raise FileNotFoundError(2, "No such file or directory", path)
        return call(path, *arguments, **more)

    return guarded


for _module, _names in ONLY_LINUX:
    for _name in _names:
        if hasattr(_module, _name):
            delattr(_module, _name)
for _module, _names in (  # type: ignore[assignment]
    (os, ("open", "stat", "lstat", "readlink", "listdir", "scandir")),
    (io, ("open",)),
    (builtins, ("open",)),
):
    for _name in _names:
        setattr(_module, _name, _without_proc(getattr(_module, _name)))
