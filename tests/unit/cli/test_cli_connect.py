"""`artisync connect`; the server is replaced."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Artisync
from vfs.base import errors
from vfs.base.address import Address
from vfs.base.profiles import load_profile, profile_names, profile_path
from vfs.base.settings import Settings

LINE = "ssh -p 30022 user@host"
Json = dict[str, Any]


pytestmark = pytest.mark.usefixtures("home")


@dataclass
class Found:
    root: bytes = b"/shared/artifacts"
    entries: int = 3
    rtt: float = 0.05
    transport: str = "paramiko"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Settings], list[errors.ArtisyncError]]:
    """Settings that were tried, and the errors that paramiko ends with; `vfs.stack` is not loaded."""
    tried: list[Settings] = []
    failures: list[errors.ArtisyncError] = []

    def probe(settings: Settings, prompter: object, *, fall_back: bool) -> Found:
        tried.append(settings)
        transport = settings.transport
        if failures:
            error = failures.pop(0)
            if not fall_back:
                raise error
            transport = "openssh"
        return Found(settings.root, transport=transport)

    stack = types.ModuleType("vfs.stack")
    stack.probe = probe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vfs.stack", stack)
    monkeypatch.setattr("vfs.stack", stack, raising=False)
    return tried, failures


Probes = tuple[list[Settings], list[errors.ArtisyncError]]


@pytest.mark.parametrize(
    "words",
    [
        ["ssh -p 30022 user@host"],
        ["--", "ssh", "-p", "30022", "user@host"],
        ["ssh", "-p", "30022", "user@host"],
        ["user@host", "-p", "30022"],
        ["-p", "30022", "user@host"],
        ["ssh", "user@host", "-p", "30022"],
        ["ssh", "-p30022", "user@host"],
        ["--", "-p", "30022", "user@host"],
        ["ssh://user@host:30022"],
        ["--timeout", "5s", "ssh", "-p", "30022", "user@host"],
        ["ssh", "-p", "30022", "user@host", "--timeout", "5s"],
        ["ssh", "-v", "-p", "30022", "user@host", "--timeout=5s"],
        ["ssh -p 30022 user@host", "--timeout", "5s"],
    ],
)
def test_the_panels_line_is_taken_in_any_form(artisync: Artisync, probes: Probes, words: list[str]) -> None:
    said = artisync("connect", *words)
    assert said.code == 0, said.err
    assert probes[0][0].address == Address.parse(LINE)
    assert probes[0][0].timeout == (5.0 if any("--timeout" in word for word in words) else 30.0)


def test_an_option_of_ssh_with_a_letter_of_ours_in_it_is_not_torn_apart(
    artisync: Artisync, probes: Probes
) -> None:
    artisync("connect", "ssh", "-oServerAliveInterval=5", "-i", "/key", "-J", "jump", "-l", "me", "host")
    assert probes[0][0].address == Address.parse("ssh -oServerAliveInterval=5 -i /key -J jump -l me host")


def test_an_option_whose_value_is_ssh_does_not_start_the_line(artisync: Artisync, probes: Probes) -> None:
    assert artisync("connect", "--profile", "ssh", LINE).code == 0
    assert profile_names() == ["ssh"]


def test_connect_saves_a_profile_and_says_what_it_found(artisync: Artisync, probes: Probes) -> None:
    said = artisync(
        "connect", LINE, "--remote-root", "/data/", "--cache-dir", "blocks", "--cache-size", "1GiB"
    )
    assert said.code == 0
    assert "Connected to host (50 ms away); /data holds 3 entries." in said.err
    profile = load_profile("default")
    assert profile is not None
    assert (profile.address.line(), profile.remote_root) == (LINE, "/data")
    assert profile.options == {
        "transport": "paramiko",
        "cache_dir": str(Path("blocks").absolute()),
        "cache_size": "1GiB",
    }


def test_connect_on_a_saved_profile_changes_the_address_and_keeps_the_rest(
    artisync: Artisync, probes: Probes
) -> None:
    artisync("connect", LINE, "--remote-root", "/data", "--ttl", "9s")
    before = load_profile("default")
    assert artisync("connect", "ssh -p 2 user@new").code == 0
    assert before is not None
    assert load_profile("default") == replace(before, address=Address.parse("ssh -p 2 user@new"))
    assert probes[0][-1].ttl == 9.0


def test_what_only_the_environment_says_is_not_saved(
    artisync: Artisync, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTISYNC_TIMEOUT", "7s")
    artisync("connect", LINE)
    profile = load_profile("default")
    assert probes[0][0].timeout == 7.0
    assert profile is not None
    assert "timeout" not in profile.options


def test_a_key_that_was_accepted_once_is_not_accepted_for_ever(artisync: Artisync, probes: Probes) -> None:
    artisync("connect", LINE, "--accept-new-host-key", "--replace-host-key")
    assert (probes[0][0].accept_new_host_key, probes[0][0].replace_host_key) == (True, True)
    artisync("connect", LINE)
    assert (probes[0][1].accept_new_host_key, probes[0][1].replace_host_key) == (False, False)


@pytest.mark.parametrize(
    "error",
    [
        errors.Refused("host:30022 refused"),
        errors.NoAnswer("x"),
        errors.HostKeyUnknown("x"),
        errors.HostKeyChanged("x"),
        errors.RootUnusable("x"),
    ],
)
def test_a_server_that_cannot_be_used_is_not_saved(
    artisync: Artisync, probes: Probes, error: errors.ConnectError
) -> None:
    probes[1].append(error)
    said = artisync("connect", LINE, "--transport", "paramiko")
    assert said.code == 1
    assert error.hint in said.err
    assert len(probes[0]) == 1
    assert profile_names() == []


def test_where_paramiko_cannot_log_in_and_ssh_can_the_profile_remembers_ssh(
    artisync: Artisync, probes: Probes
) -> None:
    probes[1].append(errors.NeedsOpenssh("x"))
    said = artisync("connect", LINE)
    assert said.code == 0
    assert "The system's ssh logs in" in said.err
    assert artisync("connect", LINE).code == 0
    assert [settings.transport for settings in probes[0]] == ["paramiko", "openssh"]


def test_a_transport_that_was_asked_for_is_the_only_one_tried(artisync: Artisync, probes: Probes) -> None:
    probes[1].append(errors.AuthRejected("x"))
    assert artisync("connect", LINE, "--transport", "paramiko").code == 1
    assert len(probes[0]) == 1


def test_a_corrupt_profile_is_written_anew(artisync: Artisync, probes: Probes) -> None:
    path = profile_path("default")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    said = artisync("connect", LINE)
    assert said.code == 0
    assert "corrupt" in said.err
    assert load_profile("default") is not None


def test_connect_moves_the_live_mounts_of_that_profile_only(artisync: Artisync, probes: Probes) -> None:
    moved: list[tuple[str, Json]] = []

    def verbs(name: str) -> dict[str, Any]:
        async def move(args: Json) -> Json:
            moved.append((name, args))
            return {}

        return {"move": move}

    with (
        live(Path("/mnt/a"), verbs("a")),
        live(Path("/mnt/b"), verbs("b"), "other"),
        live(Path("/mnt/c"), verbs("c"), None),
    ):
        said = artisync("connect", LINE)
    assert said.code == 0
    assert moved == [("a", {"line": LINE, "transport": "paramiko"})]
    assert "Moved the mount at /mnt/a" in said.err


def test_a_mount_that_cannot_move_is_told_and_fails_the_command(artisync: Artisync, probes: Probes) -> None:
    async def move(_: Json) -> Json:
        raise errors.NoAnswer("host:30022 does not answer")

    with live(Path("/mnt/a"), {"move": move}):
        said = artisync("connect", LINE)
    assert said.code == 1
    assert "could not move the mount at /mnt/a" in said.err
    assert "does not answer" in said.err
    assert load_profile("default") is not None
