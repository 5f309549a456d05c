"""`artisync profile`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Artisync, Said
from vfs.base.address import Address
from vfs.base.profiles import Profile, profile_names, profile_path, save_profile

LINE = "ssh -p 30022 user@host"


@pytest.fixture
def profiles(home: Path) -> list[Profile]:
    """Two profiles, of which `lab` is not all defaults."""
    saved = [
        Profile("default", Address.parse(LINE), id="0f"),
        Profile("lab", Address.parse("ssh lab"), "/data", {"cache_size": "1GiB"}, id="0e"),
    ]
    for profile in saved:
        save_profile(profile)
    return saved


@pytest.mark.usefixtures("profiles")
def test_profiles_are_listed_with_where_they_are_mounted(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {}), live(Path("/mnt/b"), {}):
        assert artisync("profile", "list") == Said(
            0,
            f"default\t{LINE}\t/shared/artifacts\t/mnt/a /mnt/b\nlab\tssh lab\t/data\t-\n",
            "",
        )
        rows = json.loads(artisync("profile", "list", "--json").out)["profiles"]
    assert rows[0] == {
        "profile": "default",
        "ssh": LINE,
        "remote_root": "/shared/artifacts",
        "mounts": ["/mnt/a", "/mnt/b"],
        "file": str(profile_path("default")),
    }
    assert rows[1]["mounts"] == []


def test_without_profiles_the_list_is_empty_and_says_how_to_make_one(artisync: Artisync) -> None:
    said = artisync("profile", "list")
    assert (said.code, said.out) == (0, "")
    assert "artisync connect" in said.err
    assert json.loads(artisync("profile", "list", "--json").out) == {"profiles": []}


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_cannot_be_read_is_listed_with_the_cause(artisync: Artisync) -> None:
    profile_path("lab").write_text("{")
    said = artisync("profile", "list")
    assert said.code == 1
    assert said.out.startswith("default\t")
    assert "lab\tthe profile" in said.out
    assert "corrupt" in said.out
    assert artisync("profile", "show", "lab").code == 1


@pytest.mark.usefixtures("profiles")
def test_a_profile_is_shown_with_all_that_it_says(artisync: Artisync) -> None:
    file = profile_path("lab")
    assert artisync("profile", "show", "lab") == Said(
        0,
        f"profile\tlab\nssh\tssh lab\nremote_root\t/data\ncache_size\t1GiB\nid\t0e\nfile\t{file}\n",
        "",
    )
    assert json.loads(artisync("profile", "show", "lab", "--json").out) == {
        "profile": "lab",
        "ssh": "ssh lab",
        "remote_root": "/data",
        "mounts": [],
        "file": str(file),
        "id": "0e",
        "options": {"cache_size": "1GiB"},
    }
    assert artisync("profile", "show").out.startswith("profile\tdefault\n")


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize("verb", ["list", "show"])
def test_on_a_terminal_it_is_a_table_with_a_head(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = artisync("profile", verb).out.splitlines()
    assert set(lines[1].strip()) == {"─"}
    assert any(LINE in line for line in lines[2:])


@pytest.mark.usefixtures("profiles")
def test_a_removed_profile_is_gone(artisync: Artisync) -> None:
    assert artisync("profile", "remove", "lab").code == 0
    assert profile_names() == ["default"]


@pytest.mark.usefixtures("profiles")
def test_a_corrupt_profile_can_be_removed(artisync: Artisync) -> None:
    profile_path("lab").write_text("{")
    assert artisync("profile", "remove", "lab").code == 0
    assert profile_names() == ["default"]


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_is_mounted_is_not_removed(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {}, "lab"):
        said = artisync("profile", "remove", "lab")
        assert artisync("profile", "remove", "default").code == 0
    assert said.code == 1
    assert "the profile lab is mounted at /mnt/a" in said.err
    assert "artisync unmount" in said.err
    assert profile_names() == ["lab"]


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize("verb", ["show", "remove"])
def test_of_a_profile_that_is_not_there_the_others_are_named(artisync: Artisync, verb: str) -> None:
    said = artisync("profile", verb, "lap")
    assert said.code == 1
    assert "no profile 'lap' (saved: default, lab)" in said.err
    assert artisync("profile", verb, "../x").code == 2


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_cannot_be_removed_is_told(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    said = artisync("profile", "remove", "lab")
    assert said.code == 1
    assert "cannot remove the profile" in said.err
