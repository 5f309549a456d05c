"""The unit tests where what only Linux has is not there: /proc, pidfds, O_DIRECT, peer credentials, …"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    "cli/test_cli_unmount.py::test_force_unmounts_a_busy_mount_and_ends_its_process_even_a_hanging_one",
]
ROOT = Path(__file__).parents[2]
ROOMS = ("base", "cache", "cli", "control", "fetch", "files", "frontends", "remote")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_depends_on_what_only_linux_has() -> None:
    words = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
    words += ["-p", "tests.lab.elsewhere", *(f"tests/unit/{room}" for room in ROOMS)]
    words += [f"--deselect=tests/unit/{test}" for test in ABOUT_LINUX]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
