"""What is mounted, from texts; nothing is mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfs.base import mount_table
from vfs.base.mount_table import MountInfo

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
36 22 0:31 / /home/u/a\040b\134c\011d\012e rw,nosuid,nodev shared:18 master:2 - fuse.sshfs host:/a,\040b rw,user_id=1000
40 22 0:33 / /mnt rw - tmpfs tmpfs rw
41 40 0:34 / /mnt rw - fuse.sshfs over rw
"""


def test_the_fields_of_mountinfo_are_found_behind_any_number_of_optional_ones() -> None:
    mounts = mount_table.parse_mountinfo(MOUNTINFO)
    assert [(str(m.path), m.kind) for m in mounts][::2] == [("/", "ext4"), ("/mnt", "tmpfs")]
    assert [m.user for m in mounts] == [None, 1000, None, None]


def test_octal_escapes_are_resolved_in_paths_and_sources() -> None:
    assert mount_table.parse_mountinfo(MOUNTINFO)[1] == MountInfo(
        Path("/home/u/a b\\c\td\ne"), "fuse.sshfs", "host:/a, b"
    )


def test_a_backslash_that_begins_no_octal_number_stays() -> None:
    assert mount_table.unescape(r"a\04b\\134") == r"a\04b" + "\\\\"


def test_a_path_may_hold_what_other_texts_end_lines_with() -> None:
    line = "36 22 0:31 / /a\x0b\x85\u2028b rw - fuse.x y rw"
    assert [str(m.path) for m in mount_table.parse_mountinfo(line)] == ["/a\x0b\x85\u2028b"]


def test_lines_that_are_not_mounts_are_passed_over() -> None:
    assert mount_table.parse_mountinfo("\nnonsense\n1 2 3 4 5 6 7 8 9 10 11\n") == []


def test_without_proc_the_mount_command_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mount_table, "MOUNTINFO", tmp_path / "absent")
    tool = tmp_path / "mount"
    tool.write_text("#!/bin/sh\necho 'host:/a on /Volumes/b c (macfuse, nodev, nosuid)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert mount_table.mounts() == [MountInfo(Path("/Volumes/b c"), "macfuse", "host:/a")]


@pytest.mark.parametrize(
    ("made", "device", "now"),
    [
        ("/mnt", "0:34", "/mnt"),
        ("/old/m", "0:31", "/home/u/a b\\c\td\ne"),  # a directory above it has another name
        ("/old/m", "0:99", "/old/m"),  # it is unmounted, or in another mount namespace
        ("/old/m", "", "/old/m"),  # the system tells no numbers
    ],
)
def test_where_a_mount_is_now_is_found_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, device: str, now: str
) -> None:
    monkeypatch.setattr(mount_table, "MOUNTINFO", tmp_path / "mountinfo")
    mount_table.MOUNTINFO.write_text(MOUNTINFO)
    assert mount_table.present(Path(made), device) == Path(now)


def test_a_mount_that_is_bound_to_another_place_too_is_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount_table, "MOUNTINFO", tmp_path / "mountinfo")
    mount_table.MOUNTINFO.write_text(
        "".join(f"4{i} 22 0:34 / {path} rw - fuse.x y rw\n" for i, path in enumerate(("/bound", "/mnt")))
    )
    assert mount_table.present(Path("/mnt"), "0:34") == Path("/mnt")
