"""`wait`: what it says, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.unit.commands.in_memory import Commands, Remote
from tests.unit.conftest import Artisync, Said
from vfs.base.address import Address
from vfs.base.errors import MountSilent, NoAnswer
from vfs.base.loop_time import loop_time
from vfs.base.profiles import Profile, save_profile
from vfs.base.settings import resolve
from vfs.commands import wait

SOON = "was it started"


@pytest.fixture
def commands(home: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("vfs.cli.wait.AGAIN_SECONDS", 0.01)
    commands = Commands.on(monkeypatch)
    commands.file(b"exp-1/a.log", b"x")
    return commands


def offline(monkeypatch: pytest.MonkeyPatch, attempts: float) -> None:
    """Have the server away for so many attempts to connect."""
    left = [attempts]

    async def connect(self: Remote, **_: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise NoAnswer("no answer from host")

    monkeypatch.setattr(Remote, "connect", connect)


@pytest.mark.parametrize("name", ["", "/", "exp-1/checkpoints"])
def test_what_names_no_experiment_is_wrong_usage(commands: Commands, name: str) -> None:
    said = commands.run("wait", name, "--timeout", "1s")
    assert said.code == 2
    assert b"is not the name of an experiment" in said.err


def test_a_wait_that_begins_in_an_outage_goes_on_after_it(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch, 3)
    said = commands.run("wait", "exp-1", "--settle", "0s")
    assert said.code == 0
    first, *_, last = said.err.decode().splitlines()
    assert first == "the server does not answer; waiting for it (no answer from host)"
    assert last == "exp-1 is there: 1 file, 1 B."


def test_an_outage_to_the_end_is_told_as_one(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, 1e9)
    said = commands.run("wait", "exp-1", "--timeout", "0.2")
    assert said.code == 1
    assert b"artisync: gave up after 0.2 s: the server does not answer" in said.err
    assert b"artisync doctor" in said.err
    assert SOON.encode() not in said.err


def test_a_wait_that_was_too_short_for_a_look_says_so(commands: Commands) -> None:
    assert (
        b"artisync: gave up after 0 s: no answer yet\n" in commands.run("wait", "exp-1", "--timeout", "0").err
    )


def test_the_hint_is_about_what_was_waited_for(commands: Commands) -> None:
    said = commands.run("wait", "exp-2", "--timeout", "0.5")
    assert b"after 0.5 s: exp-2 is not there yet; on the server: exp-1" in said.err
    assert SOON.encode() in said.err
    said = commands.run("wait", "exp-1", "--timeout", "0.5s", "--settle", "10min")
    assert b"after 0.5 s: exp-1: 1 file, 1 B; waiting for 600 s without changes" in said.err
    assert SOON.encode() not in said.err


def test_a_name_that_begins_so_is_the_first_to_be_suggested(commands: Commands) -> None:
    for name in (b"exp-beta", b"exp-gpx", b"exp-gpt-small-lr1e-4", b"exp-gpt-large", b"other"):
        commands.file(name + b"/f", b"1")
    said = commands.run("wait", "exp-gpt", "--timeout", "0.5s")
    assert b"on the server: exp-gpt-large, exp-gpt-small-lr1e-4, exp-gpx\n" in said.err


def test_an_outage_is_told_once_and_nothing_else_meanwhile() -> None:
    told: list[str] = []

    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp-1")
        remote: Any = stack.remote
        opened: Any = SimpleNamespace(tree=stack.tree, fetcher=stack.fetcher, remote=remote)

        async def waited() -> int:
            async for report in wait.wait(opened, "exp-2", 0.0, complete=False, until=None):
                told.append(report.get("text", ""))
            return int(report["found"]["files"])

        waiting = asyncio.ensure_future(waited())
        await asyncio.sleep(3.5)
        stack.remote.go_offline()
        told.clear()
        await asyncio.sleep(100)
        assert set(told) == {wait.SILENT}
        stack.remote.go_online()
        stack.files.mkdir(ROOT + b"/exp-2")
        stack.old(ROOT + b"/exp-2/f", b"1")
        assert await waiting == 1

    play(story)


async def _looks(*reports: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for report in reports:
        yield report


FOUND = {"found": {"name": "exp-9", "files": 3, "size": 5}}
NEWS = {"text": "exp-9 is not there yet", "kind": "WaitedTooLong"}


def mounted(home: Path, monkeypatch: pytest.MonkeyPatch, verb: Any) -> Any:
    save_profile(Profile("default", Address.parse("ssh -p 1 user@host")))
    monkeypatch.setattr("vfs.stack.run", lambda *_, **__: pytest.fail("a connection of its own"))
    settings = resolve({})

    async def status(_: dict[str, Any]) -> dict[str, Any]:
        return {"root": settings.remote_root, "cache": {"directory": str(settings.cache_dir)}}

    return live(home / "m", {"wait": verb, "status": status})


def test_a_live_mount_waits(artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def verb(arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        asked.append(arguments)
        return _looks(NEWS, NEWS, FOUND)

    with mounted(home, monkeypatch, verb):
        said = artisync("wait", "exp-9", "--settle", "1s", "--complete")
    assert said == Said(0, "", "exp-9 is not there yet\nexp-9 is there: 3 files, 5 B.\n")
    assert asked == [{"experiment": "exp-9", "settle": 1.0, "complete": True, "until": None}]


def test_a_live_mount_waits_no_longer_than_it_shall(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        assert 0 < arguments["until"] - time.monotonic() <= 0.3
        time.sleep(0.3)
        return _looks(NEWS)

    with mounted(home, monkeypatch, verb):
        said = artisync("wait", "exp-9", "--timeout", "0.3")
    assert said.code == 1
    assert "after 0.3 s: exp-9 is not there yet" in said.err


def test_a_mount_that_ends_is_no_end_of_the_wait(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(_: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        raise MountSilent("it hangs")

    took: list[str] = []

    def alone(*_: Any, **__: Any) -> None:
        took.append("own")
        raise NoAnswer("no answer")

    with mounted(home, monkeypatch, verb):
        monkeypatch.setattr("vfs.stack.run", alone)
        said = artisync("wait", "exp-9", "--timeout", "0.3")
    assert took
    assert "the server does not answer; waiting for it (no answer)" in said.err


def test_a_wait_for_another_process_tells_each_look_and_the_end() -> None:
    async def story(stack: MemoryStack) -> None:
        opened: Any = SimpleNamespace(tree=stack.tree, fetcher=stack.fetcher, remote=stack.remote)
        told = [one async for one in wait.wait(opened, "exp-1", 0.0, complete=False, until=loop_time() + 5)]
        assert {one["kind"] for one in told} == {"WaitedTooLong"}
        stack.files.mkdir(ROOT + b"/exp-1")
        stack.old(ROOT + b"/exp-1/f", b"1")
        *_, last = [one async for one in wait.wait(opened, "exp-1", 1.0, complete=True, until=None)]
        assert last["found"]["files"] == 1
        going = wait.wait(opened, "exp-2", 0.0, complete=False, until=None)
        assert "not there yet" in (await anext(going))["text"]
        await going.aclose()

    play(story)


def test_a_mount_that_ends_takes_no_time_of_the_wait_with_it(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        time.sleep(0.2)
        raise MountSilent("it hangs")

    asked: list[float] = []

    def own(_stack: object, **arguments: Any) -> AsyncIterator[dict[str, Any]]:
        asked.append(arguments["until"] - time.monotonic())
        return _looks(NEWS)

    def alone(_: object, work: Any, *__: object, **___: object) -> None:
        asyncio.run(work(None))

    with mounted(home, monkeypatch, verb):
        monkeypatch.setattr("vfs.stack.run", alone)
        monkeypatch.setattr("vfs.commands.verbs.VERBS", {"wait": own})
        artisync("wait", "exp-9", "--timeout", "0.5")
    assert asked[0] <= 0.3
