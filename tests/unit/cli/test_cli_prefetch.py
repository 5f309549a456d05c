"""`prefetch` and `pin` say what the cache keeps, and why not all."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.commands.in_memory import Commands
from vfs.base.errors import AccessDenied
from vfs.cache.data import DataFiles

MIB = 1 << 20


@pytest.fixture
def commands(home: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("vfs.base.option_values.LEAST_CACHE_SIZE", MIB)
    commands = Commands.on(monkeypatch)
    commands.file(b"exp-1/a.pt", os.urandom(3 * MIB))
    commands.file(b"exp-1/b.pt", os.urandom(3 * MIB))
    return commands


def test_what_fits_is_kept(commands: Commands) -> None:
    for command, did in (("prefetch", b"Fetched"), ("pin", b"Pinned")):
        said = commands.run(command, "exp-1", "--cache-size", "20MiB", "--json")
        assert (said.code, said.err) == (0, did + b" 2 files, 6.0 MiB.\n")
        assert json.loads(said.out) == {"files": 2, "size": 6 * MIB, "kept": 6 * MIB, "failed": []}


@pytest.mark.parametrize("command", ["pin", "prefetch"])
def test_a_limit_too_small_for_it_is_told(commands: Commands, command: str) -> None:
    said = commands.run(command, "exp-1", "--cache-size", "4MiB", "--json")
    reason = "3.0 MiB do not fit beside the others: the cache keeps 4.0 MiB at most (--cache-size)"
    assert said.code == 1
    assert json.loads(said.out) == {
        "files": 1,
        "size": 3 * MIB,
        "kept": 3 * MIB,
        "failed": [["exp-1/b.pt", reason]],
    }
    assert f" 1 file, 3.0 MiB.\nartisync: exp-1/b.pt: {reason}\n".encode() in said.err


def test_what_is_pinned_already_may_leave_no_room(commands: Commands) -> None:
    assert commands.run("pin", "exp-1/a.pt", "--cache-size", "4MiB").code == 0
    said = commands.run("pin", "exp-1/b.pt", "--cache-size", "4MiB", "--json")
    assert said.code == 1
    assert json.loads(said.out)["kept"] < 3 * MIB
    assert b"1 file, 3.0 MiB.\nartisync: the cache keeps only " in said.err
    assert b" of that: its limit of 4.0 MiB is too small (--cache-size).\n" in said.err


def test_what_the_disk_has_no_room_for_is_not_fetched(
    commands: Commands, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(total=100 * MIB, free=4 * MIB))
    said = commands.run("pin", "exp-1")
    assert said.code == 1
    assert b"artisync: exp-1/a.pt: 3.0 MiB do not fit: its disk has room for 2." in said.err


def test_a_full_disk_is_told(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DataFiles, "write", full)
    said = commands.run("pin", "exp-1")
    assert said.code == 1
    assert b"artisync: the cache keeps only 0 B of that: its disk is full.\n" in said.err


def test_what_is_still_being_written_is_no_failure(commands: Commands) -> None:
    commands.file(b"exp-1/console.log", b"x" * MIB)
    commands.files.append(b"/shared/artifacts/exp-1/console.log", b"y")
    said = commands.run("pin", "exp-1/console.log")
    assert (said.code, said.err) == (0, b"Pinned 1 file, 1.0 MiB.\n")


@pytest.mark.parametrize("command", ["pin", "prefetch"])
def test_over_a_metered_link_it_asks_first(
    commands: Commands, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer, code, told in (
        ("no\n", 1, b"--yes"),
        ("", 1, b"--yes"),
        ("yes\n", 0, b"2 files, 6.0 MiB.\n"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        said = commands.run(command, "exp-1", "--metered")
        assert said.code == code
        assert b"The link is metered. Fetch 2 files, 6.0 MiB? [yes/no]" in said.err
        assert told in said.err
    monkeypatch.setattr("sys.stdin", None)  # what is here needs no question
    assert commands.run(command, "exp-1", "--metered").code == 0


def test_over_a_metered_link_a_script_says_yes(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    said = commands.run("prefetch", "exp-1", "--metered", "--yes")
    assert (said.code, said.err) == (0, b"Fetched 2 files, 6.0 MiB.\n")


def test_of_very_many_failures_some_are_named(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise AccessDenied("may not be read")

    monkeypatch.setattr("vfs.commands.prefetch._one", refused)
    for number in range(100):
        commands.file(b"exp-2/%d" % number, b"x")
    said = commands.run("prefetch", "exp-2", "--json")
    assert said.code == 1
    assert said.err.count(b": may not be read\n") == 20
    assert said.err.endswith(b"artisync: \xe2\x80\xa6 and 80 more files.\n")
    assert len(json.loads(said.out)["failed"]) == 100
