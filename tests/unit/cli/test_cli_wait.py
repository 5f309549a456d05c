"""`wait`: what it says, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.unit.commands.in_memory import Commands, Remote
from vfs.base.errors import ArtisyncError, NoAnswer
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
    assert b"artisync: after 0.2 s: the server does not answer" in said.err
    assert b"artisync doctor" in said.err
    assert SOON.encode() not in said.err


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

        def say(text: str, _: type[ArtisyncError]) -> None:
            told.append(text)

        waiting = asyncio.ensure_future(wait.wait(opened, "exp-2", 0.0, complete=False, say=say))
        await asyncio.sleep(3.5)
        stack.remote.go_offline()
        told.clear()
        await asyncio.sleep(100)
        assert set(told) == {wait.SILENT}
        stack.remote.go_online()
        stack.files.mkdir(ROOT + b"/exp-2")
        stack.old(ROOT + b"/exp-2/f", b"1")
        assert (await waiting).files == 1

    play(story)
