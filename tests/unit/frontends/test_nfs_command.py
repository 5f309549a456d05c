"""The words of the commands that mount and unmount, and what they say of the mount to everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfs.base.mount_table import MountInfo, port_of
from vfs.frontends import mountpoint
from vfs.frontends.nfs import command

PLACE = Path("/mnt/a b")


def words(system: str, **more: float) -> list[str]:
    return command.mount_command(
        40123, "/artisync/40123/5ecret", PLACE, system=system, **{"timeout": 30.0, "ttl": 2.0, **more}
    )


def test_the_command_of_linux() -> None:
    assert words("linux") == [
        "mount",
        "-i",
        "-t",
        "nfs",
        "-o",
        "ro,nosuid,nodev,noatime,vers=3,proto=tcp,nolock,soft,timeo=175,retrans=1,rsize=1048576,actimeo=1,"
        "lookupcache=positive,port=40123,mountport=40123,addr=127.0.0.1,mountaddr=127.0.0.1,mountproto=tcp,mountvers=3",
        "127.0.0.1:/artisync/40123/5ecret",
        "/mnt/a b",
    ]


def test_the_command_of_macos() -> None:
    assert words("darwin") == [
        "/sbin/mount_nfs",
        "-o",
        "ro,nosuid,nodev,noatime,nobrowse,vers=3,tcp,nolocks,soft,timeo=175,retrans=1,rsize=1048576,intr,"
        "deadtimeout=35,acregmin=1,acregmax=1,acdirmin=1,acdirmax=1,nonegnamecache,port=40123,mountport=40123",
        "127.0.0.1:/artisync/40123/5ecret",
        "/mnt/a b",
    ]


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0.0, 0), (1.0, 0), (1.9, 0), (2.0, 1), (3.0, 1), (60.0, 30), (3600.0, 60)]
)
def test_what_the_client_keeps_and_what_the_tree_keeps_make_the_ttl(ttl: float, seconds: int) -> None:
    assert command.cached_seconds(ttl) == seconds
    for system in ("linux", "darwin"):
        options = command.client_options(30.0, ttl, system)
        times = [option for option in options if "noac" in option or option.startswith("ac")]
        assert (times == ["noac"]) == (seconds == 0)
        assert seconds == 0 or all(option.endswith(f"={seconds}") for option in times)


@pytest.mark.parametrize("timeout", [0.5, 30.0, 600.0])
def test_a_client_waits_longer_than_a_call_may_take_and_not_much_longer(timeout: float) -> None:
    (timeo,) = (o for o in command.client_options(timeout, 2.0, "linux") if o.startswith("timeo="))
    whole = 2 * int(timeo.removeprefix("timeo=")) / 10
    assert timeout + 4 < whole < timeout + 6


def test_the_command_that_unmounts() -> None:
    assert mountpoint.unmount_command(PLACE, force=False, system="linux") == [
        "umount",
        "-i",
        "-c",
        "/mnt/a b",
    ]
    assert mountpoint.unmount_command(PLACE, force=True, system="linux")[3:] == ["-l", "/mnt/a b"]
    assert mountpoint.unmount_command(PLACE, force=True, system="darwin") == [
        "/sbin/umount",
        "-f",
        "/mnt/a b",
    ]


def test_on_linux_only_root_mounts_and_macos_lets_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert mountpoint.with_right(words("linux"))[:3] == ["sudo", "-n", "mount"]
    assert mountpoint.with_right(words("darwin"))[0] == "/sbin/mount_nfs"
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert mountpoint.with_right(words("linux"))[0] == "mount"


def test_a_mount_of_ours_is_known_by_its_source() -> None:
    path = "/artisync/40123/5ec2e7"
    assert port_of(f"127.0.0.1:{path}") == 40123
    assert MountInfo(PLACE, "nfs", f"127.0.0.1:{path}").ours
    assert MountInfo(PLACE, "fuse.artisync", "h:/r").ours
    for kind, source in (
        ("nfs", "127.0.0.1:/export"),
        ("nfs", "server:/artisync/1/x"),
        ("nfs", "127.0.0.1:/artisync/x/y"),
        ("fuse.sshfs", f"127.0.0.1:{path}"),
    ):
        assert not MountInfo(PLACE, kind, source).ours
