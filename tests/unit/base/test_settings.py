"""Profiles, units, and where a setting comes from."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from vfs.base.address import Address
from vfs.base.errors import ConfigError, StateUnusable, UsageError
from vfs.base.option_values import DEFAULT_VIA
from vfs.base.places import local_user
from vfs.base.profiles import (
    Profile,
    load_profile,
    profile_names,
    profile_path,
    profiles_dir,
    remove_profile,
    save_profile,
)
from vfs.base.quantities import parse_duration, parse_size
from vfs.base.settings import DEFAULT_CACHE_SIZE, cache_place, resolve

LINE = "ssh -p 30022 user@host"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write(text: str, name: str = "default") -> Path:
    path = profile_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def saved(**options: object) -> Profile:
    profile = Profile("default", Address.parse(LINE), "/data", options)
    save_profile(profile)
    return profile


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20GiB", 20 << 30),
        ("500 MB", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("1g", 1 << 30),
        ("2Gi", 2 << 30),
        (" 64K ", 64 << 10),
        ("2TB", 2 * 10**12),
        ("4096B", 4096),
        ("7B", 7),
    ],
)
def test_a_size_is_understood_with_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "20Gib8",
        "",
        "GiB",
        "-1GiB",
        "1e9",
        "0",
        "10",
        "0B",
        "0.1B",
        "١GiB",
        "1 G iB",
        "nan",
        "20Gx",
        "9" * 400 + "B",
    ],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="20GiB"):
        parse_size(text)


def test_a_number_alone_is_asked_for_its_unit() -> None:
    with pytest.raises(UsageError, match="'10' has no unit; write it like 20GiB"):
        parse_size("10")


@pytest.mark.parametrize("size", ["1MiB", "63.9MiB", 10, "60MB"])
def test_a_cache_too_small_to_work_is_refused(home: Path, size: object) -> None:
    for merged in (resolve, cache_place):
        with pytest.raises(UsageError, match="too small; the least is 64"):
            merged({"ssh": "ssh host", "cache_size": size})
    assert resolve({"ssh": "ssh host", "cache_size": "64MiB"}).cache_size == 64 << 20
    assert cache_place({"cache_size": 1 << 30})[1] == 1 << 30


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("2.5s", 2.5), ("500ms", 0.5), ("5 min", 300.0), ("1h", 3600.0), ("0", 0.0)],
)
def test_a_duration_is_understood_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1w", "inf", "9" * 400])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="30s"):
        parse_duration(text)


def test_a_saved_profile_comes_back_equal() -> None:
    profile = saved(transport="openssh", cache_size="1GiB")
    assert load_profile("default") == profile
    assert profile_names() == ["default"]


def test_a_profile_is_for_its_owner_only_and_leaves_no_temporary_file() -> None:
    saved()
    path = profile_path("default")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["default.json"]


def test_a_root_that_is_not_utf8_survives_saving() -> None:
    root = os.fsdecode(b"/data/\xff")
    save_profile(Profile("default", Address.parse(LINE), root))
    assert resolve({}).root == b"/data/\xff"


def test_a_failed_write_keeps_the_old_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = saved()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateUnusable, match="No space left"):
        save_profile(Profile("default", Address.parse("ssh other"), "/other"))
    assert load_profile("default") == profile
    assert os.listdir(profiles_dir()) == ["default.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "\x00",
        "{}",
        json.dumps({"ssh": LINE, "remote_root": "/data"}),
        json.dumps({"id": "1", "ssh": "ssh -p 0 user@host", "remote_root": "/data"}),
        json.dumps({"id": "1", "ssh": LINE, "remote_root": "~x/data"}),
        json.dumps({"id": "1", "ssh": 7, "remote_root": "/data"}),
        json.dumps({"id": "1", "ssh": LINE, "remote_root": "/data", "options": []}),
        json.dumps({"id": "1", "ssh": LINE, "remote_root": "/data", "options": {"cache_size": "20Gib8"}}),
        json.dumps({"id": "1", "ssh": LINE, "remote_root": "/data", "options": {"allow_other": "maybe"}}),
        json.dumps({"id": "1", "ssh": LINE, "remote_root": "/data", "options": {"cachesize": "1GiB"}}),
    ],
)
def test_a_corrupt_profile_says_which_file_and_what_to_do(text: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_profile("default")
    assert str(path) in str(caught.value)
    assert "artisync connect" in caught.value.hint


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "a\nb", "-x", "é", "a" * 101])
def test_a_name_that_could_leave_the_directory_is_no_profile(name: str) -> None:
    with pytest.raises(UsageError, match="profile"):
        profile_path(name)


def test_without_any_profile_the_error_says_to_connect() -> None:
    with pytest.raises(ConfigError, match="no server yet") as caught:
        resolve({})
    assert "artisync connect" in caught.value.hint


def test_a_missing_profile_is_told_with_the_ones_there_are() -> None:
    saved()
    with pytest.raises(ConfigError, match=r"'lab' \(saved: default\)"):
        resolve({"profile": "lab"})


def test_what_is_given_beats_the_profile_which_beats_the_default() -> None:
    saved(timeout="10s", ttl="5s", transport="openssh")
    settings = resolve({"ttl": "1s"})
    assert (settings.ttl, settings.timeout, settings.cache_size) == (1.0, 10.0, DEFAULT_CACHE_SIZE)
    assert (settings.transport, settings.remote_root) == ("openssh", "/data")
    assert settings.address == Address.parse(LINE)


def test_a_profile_says_how_it_is_mounted() -> None:
    saved(via="nfs")
    assert resolve({}).via == "nfs"
    assert resolve({"via": "fuse"}).via == "fuse"
    saved()
    assert resolve({}).via == DEFAULT_VIA
    with pytest.raises(UsageError, match="'smb' is not a way to mount; choose fuse or nfs"):
        resolve({"via": "smb"})


def test_none_stands_for_not_given() -> None:
    saved(timeout="10s")
    assert resolve({"timeout": None, "remote_root": None, "ssh": None}).timeout == 10.0


def test_an_ssh_line_alone_takes_nothing_from_the_default_profile() -> None:
    saved(timeout="10s")
    settings = resolve({"ssh": "ssh other"})
    assert (settings.profile_name, settings.timeout, settings.remote_root) == (
        None,
        30.0,
        "/shared/artifacts",
    )


def test_the_ssh_line_may_come_as_words() -> None:
    assert resolve({"ssh": ["ssh", "-p", "30022", "user@host"]}).address == Address.parse(LINE)


def test_the_cache_of_a_profile_does_not_depend_on_where_the_container_is() -> None:
    profile = saved()
    assert resolve({}).identity == f"profile:{profile.id}:/data"
    assert resolve({"profile": "default", "ssh": "ssh -p 1 else@where"}).identity == resolve({}).identity
    assert resolve({"remote_root": "/other"}).identity == f"profile:{profile.id}:/other"


def test_the_cache_of_an_ssh_line_does_not_depend_on_the_port() -> None:
    one, two = (resolve({"ssh": f"ssh -p {port} user@HOST"}).identity for port in (1, 2))
    assert one == two == "user@host:/shared/artifacts"


def test_two_profiles_never_share_an_id() -> None:
    assert Profile("a", Address.parse(LINE)).id != Profile("a", Address.parse(LINE)).id


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("/data/", "/data"),
        ("//a//b/./c", "/a/b/c"),
        ("/", "/"),
        ("/a/../b", "/a/../b"),
        ("a//b/", "a/b"),
        ("~/a", "a"),
        ("~", "."),
        ("./", "."),
        ("../a", "../a"),
    ],
)
def test_a_root_has_one_spelling_but_keeps_its_dots(given: str, root: str) -> None:
    assert resolve({"ssh": LINE, "remote_root": given}).remote_root == root


@pytest.mark.parametrize("root", ["~other/data", "/a\0b"])
def test_a_root_that_is_no_path_is_refused(root: str) -> None:
    with pytest.raises(UsageError, match="is not a path"):
        resolve({"ssh": LINE, "remote_root": root})


def test_a_timeout_of_nothing_is_refused_and_a_ttl_of_nothing_is_not() -> None:
    assert resolve({"ssh": LINE, "ttl": "0"}).ttl == 0.0
    with pytest.raises(UsageError, match="timeout"):
        resolve({"ssh": LINE, "timeout": "0"})


def test_paths_are_absolute_since_a_daemon_works_elsewhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    settings = resolve({"ssh": LINE, "cache_dir": "blocks", "log_file": "~/log"})
    assert settings.cache_dir == home / "blocks"
    assert settings.log_file == Path.home() / "log"


def test_places_follow_the_xdg_variables(home: Path) -> None:
    settings = resolve({"ssh": LINE})
    assert settings.cache_dir == home / "cache/artisync"
    assert settings.known_hosts == home / "config/artisync/known_hosts"


def test_a_removed_profile_is_gone_and_removing_it_again_says_so() -> None:
    saved()
    assert remove_profile("default")
    assert not remove_profile("default")
    assert profile_names() == []


@pytest.mark.parametrize("value", [7, "", object()])
def test_what_is_no_path_of_this_machine_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="is not a path"):
        resolve({"ssh": "ssh host", "log_file": value})


def test_a_profile_that_cannot_be_read_is_told(home: Path) -> None:
    profile_path("default").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot read the profile"):
        load_profile("default")


def test_a_user_without_a_name_goes_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert local_user() == str(os.getuid())
