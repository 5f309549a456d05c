"""Facts about mount points, from texts and directories; nothing is mounted."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from vfs.base import errors, mount_table
from vfs.base.mount_table import MountInfo
from vfs.frontends import mountpoint
from vfs.frontends.fuse import available


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text("40 22 0:33 / /mnt rw - tmpfs tmpfs rw\n41 40 0:34 / /mnt rw - fuse.sshfs over rw\n")
    monkeypatch.setattr(mount_table, "MOUNTINFO", file)
    return file


def test_of_two_mounts_at_one_place_the_later_is_seen(mountinfo: Path) -> None:
    assert mountpoint.mount_info(Path("/mnt")) == MountInfo(Path("/mnt"), "fuse.sshfs", "over")


def test_a_directory_inside_a_mount_is_not_a_mount(mountinfo: Path) -> None:
    assert not mountpoint.is_mounted(Path("/mnt/below"))


def test_a_mount_is_found_by_a_path_with_links_and_dots(mountinfo: Path, tmp_path: Path) -> None:
    real = Path(os.path.realpath(tmp_path))
    (tmp_path / "link").symlink_to(real)
    mountinfo.write_text(f"36 22 0:31 / {real}/place rw - fuse.x y rw\n")
    assert mountpoint.is_mounted(tmp_path / "link" / "." / "nothing" / ".." / "place")


def test_commas_and_backslashes_are_escaped_in_option_values() -> None:
    assert available.escape("host:/a,b\\c") == "host:/a\\,b\\\\c"


# --- can it be mounted there? -------------------------------------------------------------------------------------


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    mountpoint.check_usable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_an_empty_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    mountpoint.check_usable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_refused_also_as_a_parent(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for path in (tmp_path / "f", tmp_path / "f" / "below"):
        with pytest.raises(errors.MountPointUnusable, match="is a file"):
            mountpoint.check_usable(path)


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_bytes(b"")
    with pytest.raises(errors.MountPointUnusable, match="not empty"):
        mountpoint.check_usable(tmp_path)


def test_a_place_where_something_is_mounted_is_refused_with_its_name() -> None:
    with pytest.raises(errors.MountPointUnusable, match=r"already mounted \(proc of proc\)"):
        mountpoint.check_usable(Path("/proc"))


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(errors.MountPointUnusable, match="another user"):
        mountpoint.check_usable(tmp_path)


def test_a_directory_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(errors.MountPointUnusable, match="not writable"):
        mountpoint.check_usable(tmp_path)


def test_a_directory_that_cannot_be_made_is_refused_with_the_reason() -> None:
    with pytest.raises(errors.MountPointUnusable, match="cannot be used"):
        mountpoint.check_usable(Path("/proc/nothing/here"))


def test_what_is_not_mounted_is_not_dead_and_cannot_be_unmounted(tmp_path: Path) -> None:
    assert not mountpoint.is_dead(tmp_path)
    with pytest.raises(errors.MountError, match="cannot be unmounted"):
        mountpoint.unmount(tmp_path)


# --- can this user mount at all? ----------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "fuse"
    place.write_bytes(b"")
    monkeypatch.setattr(available, "DEVICE", place)
    monkeypatch.setattr(available.sys, "platform", "linux")
    return place


def test_without_the_device_fuse_is_missing(device: Path) -> None:
    device.unlink()
    with pytest.raises(errors.FuseMissing, match="modprobe fuse"):
        available.check_fuse()


@pytest.mark.parametrize(("number", "advice"), [(errno.EACCES, "chmod 666"), (errno.EPERM, "SYS_ADMIN")])
def test_a_device_that_may_not_be_opened_is_told_with_the_remedy(
    device: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(errors.FuseMissing, match=advice):
        available.check_fuse()


def test_a_user_needs_the_helper_program_and_root_does_not(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    available.check_fuse()
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(errors.FuseMissing, match="fusermount3"):
        available.check_fuse()


def test_allow_other_is_told_to_need_a_line_in_fuse_conf(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "fuse.conf"
    monkeypatch.setattr(available, "FUSE_CONF", conf)
    monkeypatch.setattr(available.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    for text in (None, "#user_allow_other\nmount_max = 1000\n"):
        if text is not None:
            conf.write_text(text)
        with pytest.raises(errors.MountError, match=f"echo user_allow_other . sudo tee -a {conf}"):
            available.check_fuse(allow_other=True)
    conf.write_text("mount_max = 1000\n user_allow_other \n")
    available.check_fuse(allow_other=True)


def test_a_mount_by_nfs_is_dead_when_nobody_listens_at_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"127.0.0.1:/artisync/{port}/ab"
        file = tmp_path / "mountinfo"
        file.write_text(f"36 22 0:31 / /mnt rw - nfs {source} rw,vers=3\n")
        monkeypatch.setattr(mount_table, "MOUNTINFO", file)
        assert mountpoint.is_ours(Path("/mnt"))
        assert not mountpoint.is_dead(Path("/mnt"))
    assert mountpoint.is_dead(Path("/mnt"))


def test_what_only_root_unmounts_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mountinfo"
    file.write_text("36 22 0:31 / /mnt/a\\040b rw - nfs 127.0.0.1:/artisync/1/ab rw,vers=3\n")
    monkeypatch.setattr(mount_table, "MOUNTINFO", file)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        errors.MountError, match="only root can unmount /mnt/a b: `sudo umount -i -c '/mnt/a b'`"
    ):
        mountpoint.unmount(Path("/mnt/a b"))
