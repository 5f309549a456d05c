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

import pytest

import vfs

ONLY_LINUX = (
    (os, ("eventfd", "eventfd_read", "eventfd_write", "pidfd_open", "memfd_create", "posix_fallocate")),
    (os, ("O_DIRECT", "O_PATH", "splice")),
    (signal, ("pidfd_send_signal",)),
    (socket, ("SO_PEERCRED", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_QUICKACK")),
    (fcntl, ("F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_OFD_SETLK", "F_ADD_SEALS")),
    (mmap, ("MADV_NOHUGEPAGE", "MADV_HUGEPAGE", "MAP_POPULATE")),
)
ABOUT_LINUX = [
    # /proc itself is what they look at
    "frontends/test_mountpoint.py::test_a_place_where_something_is_mounted_is_refused_with_its_name",
    "frontends/test_mountpoint.py::test_a_directory_that_cannot_be_made_is_refused_with_the_reason",
    "frontends/test_fuse_signals.py::test_the_signals_of_a_thread_are_seen",
    "cli/test_cli_unmount.py::test_who_waits_for_the_server_without_an_open_file_is_told",
    # the directory of the sockets, which is private, is all that keeps others out
    "control/test_control.py::test_another_user_is_turned_away",
    # they look at holes in a file; without them whole files make way
    "cache/test_disk_cache.py::test_one_block_is_replaced_or_lost_without_the_others",
    "cache/test_disk_cache.py::test_the_least_recently_used_makes_way_first",
    "cache/test_disk_cache.py::test_what_makes_way_leaves_a_hole_and_the_last_block_takes_the_file_with_it",
    "cache/test_disk_cache.py::test_what_was_used_in_an_earlier_session_counts",
    # they take a pidfd away; a child of the test that has ended is still there without one
    "cli/test_background.py::test_the_end_of_a_process_can_be_awaited_on_an_old_kernel",
    "cli/test_cli_unmount.py::test_unmount_returns_after_the_end_of_the_mounts_process",
    "cli/test_cli_unmount.py::test_a_mount_is_found_where_it_is_after_a_directory_above_it_was_renamed",
    "cli/test_cli_unmount.py::test_the_command_itself_does_not_stand_in_the_mount",
    "cli/test_cli_unmount.py::test_force_unmounts_a_busy_mount_and_ends_its_process_even_a_hanging_one",
]
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    about_linux = [
        item for item in items if item.nodeid.partition("[")[0].removeprefix("tests/unit/") in ABOUT_LINUX
    ]
    config.hook.pytest_deselected(items=about_linux)
    items[:] = [item for item in items if item not in about_linux]
