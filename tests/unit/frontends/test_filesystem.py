"""The fsspec file system without a server: its options, paths and errors; that it writes nothing."""

from __future__ import annotations

import asyncio
import errno
import pickle
import re
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fsspec")

from vfs.base import errors
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.frontends.fsspec import stacks
from vfs.frontends.fsspec.filesystem import ArtisyncFileSystem, _os_error

SERVER = {"ssh": "ssh -p 30022 user@127.0.0.1", "remote_root": "/r"}


@pytest.fixture
def fs(home: Path) -> ArtisyncFileSystem:
    return ArtisyncFileSystem(**SERVER, cache_dir=home, skip_instance_cache=True)


def test_the_entry_point_names_the_class() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["fsspec.specs"]["artisync"].partition(":")
    assert getattr(import_module(module), name) is ArtisyncFileSystem


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no server yet"),
        ({"profile": "other"}, "there is no profile 'other'"),
        ({**SERVER, "cache_size": "much"}, "'much' is not a size"),
        ({**SERVER, "timeout": 0}, "longer than zero"),
        ({**SERVER, "transport": "telnet"}, "not a transport"),
        ({**SERVER, "remote_rot": "/r"}, "no option 'remote_rot'"),
        ({"ssh": "ssh"}, "names no host"),
    ],
)
def test_options_that_cannot_be_used_are_told_at_once(home: Path, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ArtisyncFileSystem(**options, skip_instance_cache=True)


def test_options_that_fsspec_gives_to_any_file_system_are_taken(fs: ArtisyncFileSystem) -> None:
    of_fsspec = {"asynchronous": True, "loop": None, "batch_size": 8, "use_listings_cache": False}
    other = ArtisyncFileSystem(**fs._options, **of_fsspec, skip_instance_cache=True)
    assert other._options == fs._options


def test_without_options_the_default_profile_answers(home: Path) -> None:
    save_profile(Profile("default", Address.parse(SERVER["ssh"]), "/r", {"timeout": "7s"}))
    assert ArtisyncFileSystem(skip_instance_cache=True)._options == {}


def test_a_pickled_filesystem_carries_its_options(fs: ArtisyncFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again._options == fs._options == {**SERVER, "cache_dir": fs._options["cache_dir"]}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("artisync://exp-1/a.pt", "exp-1/a.pt"),
        ("artisync:///exp-1//a.pt/", "exp-1/a.pt"),
        ("/exp-1/./b/../a.pt", "exp-1/a.pt"),
        ("../../etc/passwd", "etc/passwd"),
        ("artisync://", ""),
        ("", ""),
        (Path("exp-1/a.pt"), "exp-1/a.pt"),
        ("exp-1/what? is #1 [x] 100%.txt", "exp-1/what? is #1 [x] 100%.txt"),
    ],
)
def test_a_path_is_relative_to_the_root_and_does_not_lead_out(url: Any, path: str) -> None:
    assert ArtisyncFileSystem._strip_protocol(url) == path
    assert ArtisyncFileSystem._strip_protocol([url]) == [path]


class Absent:
    """The files of a server that has none."""

    timeout = 0.05

    async def open(self, node: Any) -> Any:
        raise AssertionError("there is nothing to open")

    async def find(self, path: bytes) -> Any:
        if path == b"slow":
            await asyncio.sleep(60)
        raise errors.NoSuchPath("it is not there")


class OnTheSpot:
    """Runs work for the stack of no server."""

    def run(self, options: Any, work: Callable[[Any], Any]) -> Any:
        return asyncio.run(work(SimpleNamespace(files=Absent())))


def test_each_call_is_logged_with_its_path_and_errno(
    fs: ArtisyncFileSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stacks, "of_this_process", OnTheSpot)
    caplog.set_level("DEBUG", "vfs.base.calls")
    with pytest.raises(FileNotFoundError):
        fs.info("exp-1/f")
    with pytest.raises(FileNotFoundError):
        fs.open("exp-1/f")
    with pytest.raises(TimeoutError):
        fs.ls("slow")
    info, opened, slow = caplog.messages
    assert re.fullmatch(r"info\{req=\d+ path=exp-1/f\}: ENOENT \(NoSuchPath: .*\) in \d+\.\d ms", info)
    assert re.match(r"open\{req=\d+ path=exp-1/f\}: ENOENT ", opened)
    assert re.match(r"list\{req=\d+ path=slow\}: ETIMEDOUT ", slow)


@pytest.mark.parametrize(
    ("error", "kind", "number"),
    [
        (errors.NoSuchPath("x"), FileNotFoundError, errno.ENOENT),
        (errors.AccessDenied("x"), PermissionError, errno.EACCES),
        (errors.NotDirectory("x"), NotADirectoryError, errno.ENOTDIR),
        (errors.StaleVersion("x"), OSError, errno.ESTALE),
        (errors.BeingWritten("x"), OSError, errno.ESTALE),
        (errors.Unreachable("x"), OSError, errno.EHOSTUNREACH),
        (errors.Refused("x"), OSError, errno.EHOSTUNREACH),
        (errors.NoAnswer("x"), OSError, errno.EHOSTUNREACH),
        (errors.AuthRejected("x"), PermissionError, errno.EACCES),
        (errors.ServerFailure("x"), OSError, errno.EIO),
        (errors.CacheUnusable("x"), OSError, errno.EIO),
        (TimeoutError(), TimeoutError, errno.ETIMEDOUT),
        (IsADirectoryError(errno.EISDIR, "is a directory"), IsADirectoryError, errno.EISDIR),
    ],
)
def test_failures_are_the_oserrors_that_programs_know(
    error: Exception, kind: type[OSError], number: int
) -> None:
    shown = _os_error(error, "exp-1/a.pt")
    assert type(shown) is kind
    assert shown.errno == number


def test_a_failure_of_the_link_says_what_to_do() -> None:
    assert "artisync doctor" in str(_os_error(errors.Unreachable("no route"), "exp-1"))


@pytest.mark.parametrize(
    "change",
    [
        lambda fs: fs.open("x", "wb"),
        lambda fs: fs.open("x", "ab"),
        lambda fs: fs.open("x", "xb"),
        lambda fs: fs.open("x", "r+b"),
        lambda fs: fs.open("x", "w"),
        lambda fs: fs.pipe("x", b"data"),
        lambda fs: fs.pipe_file("x", b"data"),
        lambda fs: fs.write_text("x", "data"),
        lambda fs: fs.touch("x"),
        lambda fs: fs.mkdir("x"),
        lambda fs: fs.makedirs("x", exist_ok=True),
        lambda fs: fs.rmdir("x"),
        lambda fs: fs.rm("x", recursive=True),
        lambda fs: fs.rm_file("x"),
        lambda fs: fs.delete("x"),
        lambda fs: fs.mv("x", "y"),
        lambda fs: fs.rename("x", "y"),
        lambda fs: fs.cp_file("x", "y"),
        lambda fs: fs.put_file(__file__, "x"),
    ],
)
def test_every_change_is_refused_and_no_server_is_asked(
    fs: ArtisyncFileSystem, change: Callable[[Any], object]
) -> None:
    with pytest.raises(OSError) as caught:
        change(fs)
    assert caught.value.errno == errno.EROFS
