"""`artisync status`, asked of control sockets without mounts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Artisync, Kernel, Said
from vfs import stack
from vfs.base.address import Address
from vfs.base.errors import NotMounted
from vfs.base.profiles import Profile, save_profile
from vfs.cli import status_view
from vfs.control import register

LINE = "ssh -p 30022 user@host"
Json = dict[str, Any]


pytestmark = pytest.mark.usefixtures("home")


STATUS: Json = {
    "mountpoint": "/mnt/a",
    "pid": 7,
    "profile": "default",
    "address": LINE,
    "root": "/shared/artifacts",
    "transport": "paramiko",
    "state": "online",
    "since_seconds": 190.0,
    "uptime_seconds": 7500.0,
    "cache": {
        "directory": "/cache",
        "disk_bytes": 3 << 29,
        "limit": 20 << 30,
        "hits": 97,
        "misses": 3,
        "queue_bytes": 0,
    },
    "remote": {
        "connections": 2,
        "bytes_received": 310 << 20,
        "requests": 40,
        "rtt_ms": 51.0,
        "rate_bytes_per_s": 12 << 20,
    },
    "fetches": [{"path": "exp/\x1b[31mbest.pt", "bytes": 1 << 20}],
}


async def told(_: Json) -> Json:
    return STATUS


def test_what_is_too_long_for_a_line_goes_on_below_and_the_log_is_named() -> None:
    lines = status_view.render([{**STATUS, "log": "/state/a.log"}], 80).plain.splitlines()
    assert lines[4:7] == [
        "  received 310 MiB in 40 requests · 2 connections · 51.0 ms round trip",
        "           12.0 MiB/s",
        "  log      /state/a.log",
    ]


def test_a_path_that_does_not_fit_beside_its_label_has_a_line_of_its_own() -> None:
    for length, shown in ((69, 11), (70, 10), (78, 2)):
        path = "/" + "l" * (length - 1)
        lines = status_view.render([{**STATUS, "log": path}], 80).plain.splitlines()
        assert (
            f"{'  log':<11}{path}" in lines if length == 69 else lines[6:8] == ["  log", " " * shown + path]
        )


def test_a_problem_wraps_at_words_and_its_command_stays_whole() -> None:
    problem = (
        "the mount at /mnt/a is dead: its process was killed; `artisync mount /home/me/a` mounts it again"
    )
    for said in ({"problem": problem}, {"error": problem}):
        lines = status_view.render([{**STATUS, **said}], 80).plain.splitlines()
        assert lines[1:3] == [
            "  problem  the mount at /mnt/a is dead: its process was killed;",
            "           `artisync mount /home/me/a` mounts it again",
        ]


def test_status_without_mounts_says_so(artisync: Artisync) -> None:
    assert artisync("status") == Said(0, "Nothing is mounted.\n", "")
    assert json.loads(artisync("status", "--json").out) == {"mounts": []}


def test_status_tells_why_a_mount_is_offline(artisync: Artisync, home: Path) -> None:
    async def offline(_: Json) -> Json:
        return {**STATUS, "state": "offline", "problem": "host refuses the connection"}

    with live(home / "a", {"status": offline}):
        lines = artisync("status").out.splitlines()
    assert lines[0].split()[1] == "offline"
    assert lines[1].split(maxsplit=1) == ["problem", "host refuses the connection"]


def test_status_tells_what_each_mount_answers(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {"status": told}):
        said = artisync("status")
    assert said.code == 0
    assert said.out.splitlines() == [
        "/mnt/a  online for 3 min",
        "  server   ssh -p 30022 user@host  /shared/artifacts",
        "  mount    profile default · paramiko · process 7 · up 2 h 5 min",
        "  cache    1.5 GiB of 20.0 GiB · 97% hits · /cache",
        "  received 310 MiB in 40 requests · 2 connections · 51.0 ms round trip · 12.0 MiB/s",
        "  fetching exp/\\x1b[31mbest.pt  1.0 MiB under way",
    ]


def test_a_long_address_and_a_long_root_have_a_line_each(artisync: Artisync) -> None:
    address = "ssh -p 30022 -i /home/me/.ssh/id_ed25519_cluster me@trainer-7.example.org"

    async def far(_: Json) -> Json:
        return {**STATUS, "address": address, "root": "/shared/artifacts"}

    with live(Path("/mnt/a"), {"status": far}):
        lines = artisync("status").out.splitlines()
    assert lines[1:3] == [f"  server   {address}", "  root     /shared/artifacts"]


def test_status_shows_how_far_a_fetch_is(artisync: Artisync) -> None:
    async def fetching(_: Json) -> Json:
        fetches = [{"path": f"f{n}", "done": 1 << 20, "size": 4 << 20, "rate": 2 << 20} for n in range(12)]
        return {**STATUS, "fetches": fetches}

    with live(Path("/mnt/a"), {"status": fetching}):
        lines = artisync("status").out.splitlines()
    assert lines[-2:] == [
        f"  fetching f9  {'━' * 5}{'╌' * 15}  25% of 4.0 MiB  2.0 MiB/s",
        "           and 2 more",
    ]


def test_status_for_programs_is_what_the_mounts_answer(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {"status": told}), live(Path("/mnt/b"), {"status": told}):
        assert json.loads(artisync("status", "--json").out) == {"mounts": [STATUS, STATUS]}
        assert json.loads(artisync("status", "--json", "/mnt/a").out) == {"mounts": [STATUS]}


def test_a_mount_that_does_not_answer_is_told_beside_the_others(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Json) -> Json:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr("vfs.cli.status.ANSWER_SECONDS", 0.1)
    with live(Path("/mnt/a"), {"status": told}), live(Path("/mnt/b"), {"status": never}):
        said = artisync("status")
        data = json.loads(artisync("status", "--json").out)
    assert said.code == 1
    assert "/mnt/a  online" in said.out
    assert "/mnt/b  silent" in said.out
    assert "unmount --force" in said.out
    assert [mount["state"] for mount in data["mounts"]] == ["online", "silent"]


def test_status_of_a_place_without_a_mount_is_an_error(artisync: Artisync, home: Path) -> None:
    said = artisync("status", "nothing")
    assert said.code == 1
    assert f"there is no artisync mount at {home / 'nothing'}" in said.err


def test_watching_goes_on_until_ctrl_c_and_that_is_no_failure(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("vfs.cli.status.time.sleep", sleep)
    with live(Path("/mnt/a"), {"status": told}):
        said = artisync("status", "--watch", "--json")
    assert said.code == 0
    assert [json.loads(line) for line in said.out.splitlines()] == [{"mounts": [STATUS]}] * 3


def test_a_place_in_a_live_mount_means_that_mount(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    with live(home / "m", {"status": told}):
        for place in (home / "m", home / "m/exp-1/logs"):
            said = artisync("status", str(place), "--json")
            assert json.loads(said.out) == {"mounts": [STATUS]}
    assert artisync("status", str(home)).code == 1


@pytest.fixture
def dead(home: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mount of the profile lab, whose process was killed."""
    with live(home / "m", {"status": told}, profile="lab"):
        (record,) = register.mounts()
        kept = record.socket.with_suffix(".json").read_text()
    record.socket.with_suffix(".json").write_text(kept)
    kernel.dead = True
    return home / "m"


def test_a_dead_mount_is_told_with_what_mounts_it_again(artisync: Artisync, dead: Path) -> None:
    said = artisync("status")
    again = f"`artisync mount {dead} --profile lab` mounts it again"
    assert said.code == 1
    assert said.out.splitlines() == [
        f"{dead}  dead",
        f"  problem  the mount at {dead} is dead: its process was killed; {again}",
    ]
    (told,) = json.loads(artisync("status", "--json").out)["mounts"]
    assert (told["mountpoint"], told["profile"], told["state"]) == (str(dead), "lab", "dead")
    said = artisync("status", "m")
    assert said.code == 1
    assert again in said.err


def test_a_path_in_a_dead_mount_is_not_taken_for_one_on_the_server(artisync: Artisync, dead: Path) -> None:
    for command in ("prefetch", "pin", "unpin"):
        said = artisync(command, "m/exp-1")
        assert said.code == 1
        assert f"the mount at {dead} is dead: its process was killed" in said.err
        assert "--profile lab` mounts it again" in said.err


def test_a_mount_that_answers_and_is_not_in_the_register_is_not_said_to_be_dead(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    """A mount of another user, or another place to which one was bound."""
    for words in (["status", "m"], ["ls", "./m/exp-1"], ["prefetch", "./m/exp-1"]):
        said = artisync(*words)
        assert said.code == 1
        assert "dead" not in said.err
    assert artisync("unmount", "m") == Said(0, "", f"Unmounted {home / 'm'}.\n")


def test_no_file_is_opened_in_a_mount_that_does_not_answer(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is stopped: it would hold the command for ever."""

    async def never(_: Json) -> Json:
        await asyncio.sleep(30)
        return {}

    monkeypatch.setattr("vfs.cli.places.ANSWER_SECONDS", 0.2)
    (home / "m").mkdir()
    (home / "m/a.log").write_text("x")
    with live(home / "m", {"status": never}):
        for command in ("cat", "inspect"):
            said = artisync(command, "m/a.log")
            assert (said.code, said.out) == (1, "")
            assert "has not answered for 0.2 s" in said.err


@pytest.mark.parametrize("begun", [False, True])
def test_when_a_mount_ends_meanwhile_its_own_server_is_asked_and_nothing_is_written_twice(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    save_profile(Profile("lab", Address.parse("ssh lab")))
    asked: list[str | None] = []

    def ends(*_: object, **__: object) -> Iterator[Json]:
        if begun:
            yield {"data": b""}
        raise NotMounted("it has ended")

    monkeypatch.setattr("vfs.control.client.stream", ends)
    monkeypatch.setattr("vfs.cli.cat._write", bytes)
    monkeypatch.setattr(stack, "run", lambda settings, *_, **__: asked.append(settings.profile_name))
    with live(home / "m", {"status": told}, profile="lab"):
        said = artisync("cat", "m/exp-1/a.log")
    assert asked == ([] if begun else ["lab"])
    assert ("it has ended" in said.err) is begun


def test_another_users_mount_in_the_place_of_a_dead_one_is_not_said_to_be_dead(
    artisync: Artisync, dead: Path, kernel: Kernel
) -> None:
    kernel.dead = False
    assert artisync("status").out == artisync("status").out == "Nothing is mounted.\n"
    assert "nothing is mounted" in artisync("unmount").err


def test_a_mount_that_was_taken_away_is_none(artisync: Artisync, dead: Path, kernel: Kernel) -> None:
    del kernel.mounted[dead]
    assert artisync("status").out == "Nothing is mounted.\n"


def test_status_tells_what_a_metered_link_carried_and_for_what(artisync: Artisync, home: Path) -> None:
    async def metered(_: Json) -> Json:
        return {**STATUS, "metered": True, "bytes": {"fetched": 3 << 20, "used": 2 << 20}}

    with live(home / "a", {"status": metered}):
        lines = artisync("status").out.splitlines()
    traffic = next(line.split(maxsplit=1)[1] for line in lines if line.split()[:1] == ["traffic"])
    assert traffic == (
        "metered · 3.0 MiB of files fetched, 2.0 MiB read by programs · 1.50 bytes fetched per byte read"
    )
