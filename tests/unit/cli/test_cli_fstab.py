"""`mount.artisync`: how the arguments of mount(8) become those of `artisync mount`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Kernel
from vfs import cli
from vfs.base.address import Address
from vfs.base.errors import UsageError
from vfs.cli import fstab
from vfs.cli.fstab import FAILED, INTERRUPTED, USAGE_ERROR, FstabLine, parse, run


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("default", ["--profile=default"]),
        ("me@lab", ["--profile=me@lab"]),
        ("me@host:/data", ["--ssh=ssh me@host", "--remote-root=/data"]),
        ("host:/", ["--ssh=ssh host", "--remote-root=/"]),
        ("host:", ["--ssh=ssh host"]),
        ("me@[::1]:/data/a:b", ["--ssh=ssh me@::1", "--remote-root=/data/a:b"]),
        ("ssh://me@host:30022/data", ["--ssh=ssh ssh://me@host:30022", "--remote-root=/data"]),
        ("ssh://me@host:30022/", ["--ssh=ssh ssh://me@host:30022"]),
        ("ssh://host", ["--ssh=ssh ssh://host"]),
    ],
)
def test_the_first_field_names_a_profile_or_a_server(source: str, words: list[str]) -> None:
    assert parse([source, "/mnt"]) == FstabLine(words, "/mnt")
    if words[0].startswith("--ssh="):
        Address.parse(words[0].removeprefix("--ssh="))


def test_options_of_ours_are_passed_on_and_generic_ones_ignored() -> None:
    generic = "rw,noauto,user=me,_netdev,x-systemd.automount,nofail,noexec,nosuid,nodev,noatime,relatime,exec"
    ours = "ttl=5s,timeout=9s,cache_size=1GiB,cache-dir=/c,transport=openssh,via=nfs,allow_other,ro"
    line = parse(["default", "/mnt", "-n", "-o", f"{generic},{ours}", "-t", "artisync.x"])
    assert line.words == [
        "--profile=default",
        "--ttl=5s",
        "--timeout=9s",
        "--cache-size=1GiB",
        "--cache-dir=/c",
        "--transport=openssh",
        "--via=nfs",
        "--allow-other",
    ]


def test_options_may_come_in_any_order_and_several_times() -> None:
    line = parse(["-o", "ttl=5s", "me@host:/data", "-vf", "/mnt", "-o", "port=30022,IdentityFile=/my key"])
    assert line == FstabLine(
        ["--ssh=ssh -p 30022 -i '/my key' me@host", "--remote-root=/data", "--ttl=5s", "-v"], "/mnt", True
    )
    assert Address.parse("ssh -p 30022 -i '/my key' me@host").keys == ("/my key",)


def test_a_value_in_quotes_may_hold_commas() -> None:
    assert parse(["a", "/mnt", "-o", 'rw,cache_dir="/a,b",ttl=1s']).words[1:] == [
        "--cache-dir=/a,b",
        "--ttl=1s",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: mount.artisync"),
        (["default"], "usage: mount.artisync"),
        (["default", "/mnt", "more"], "usage: mount.artisync"),
        (["default", "/mnt", "-x"], "-x"),
        (["default", "/mnt", "-o"], "-o"),
        (["default", "/mnt", "-o", "ttl"], "'ttl'"),
        (["default", "/mnt", "-o", "allow_other=1"], "'allow_other=1'"),
        (["default", "/mnt", "-o", "remount,rw"], "'remount'"),
        (["default", "/mnt", "-o", "noauto=1"], "'noauto=1'"),
        (["default", "/mnt", "-o", "port=22"], "go with a host"),
        (["default", "/mnt", "-N", "/proc/1/ns/mnt"], "namespace"),
    ],
)
def test_what_is_not_understood_is_told_with_the_exit_code_of_mount(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError):
        parse(arguments)
    assert run(arguments) == USAGE_ERROR
    assert said in capsys.readouterr().err


def test_with_s_options_that_are_not_understood_are_ignored() -> None:
    assert parse(["default", "/mnt", "-s", "-o", "context=x,ttl=1s"]).words[1:] == ["--ttl=1s"]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> list[list[str]]:
    """The command lines that were run; nothing of ours is mounted at /mnt."""
    calls: list[list[str]] = []

    def command(words: Any) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(cli, "run", command)
    return calls


def test_the_mount_is_made_by_the_ordinary_command(called: list[list[str]]) -> None:
    assert run(["default", "/mnt", "-o", "rw,ttl=5s"]) == 0
    assert called == [["mount", "--profile=default", "--ttl=5s", "--", "/mnt"]]


def test_a_fake_mount_only_looks(called: list[list[str]]) -> None:
    assert run(["default", "/mnt", "-f"]) == 0
    assert called == []


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, FAILED), (2, USAGE_ERROR), (130, INTERRUPTED)])
def test_exit_codes_are_those_of_mount(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, code: int, expected: int
) -> None:
    monkeypatch.setattr(cli, "run", lambda _: code)
    assert run(["default", "/mnt"]) == expected


def test_what_is_mounted_already_is_left_alone_unless_it_is_dead(
    called: list[list[str]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live(home / "m", {}):
        assert run(["default", str(home / "m")]) == 0
    assert "is already mounted" in capsys.readouterr().err
    assert called == []
    assert run(["default", str(home / "m")]) == 0
    assert len(called) == 1


def test_the_entry_point_is_the_one_of_the_package() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"mount.artisync" = "vfs.cli.fstab:main"' in text
    assert callable(fstab.main)
