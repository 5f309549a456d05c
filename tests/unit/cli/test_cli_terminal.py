"""What draws, at a real pseudo-terminal of 80 columns: no line is longer, no name is broken, nothing is left behind."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.lab.live_mount import live
from tests.lab.terminal import ESCAPES, Terminal
from tests.unit.cli.test_cli_status import STATUS
from tests.unit.commands.in_memory import Commands, Remote
from tests.unit.formats.made_files import torch_archive
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.cli import run

NAME = "exp-gpt-small-lr1e-4-with-a-rather-long-name"
MIB = 1 << 20


@pytest.fixture
def commands(home: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    for name, value in {"TERM": "xterm-256color", "LANG": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COLUMNS", raising=False)
    commands = Commands.on(monkeypatch)
    commands.file(f"{NAME}/checkpoints/epoch_000012.pt".encode(), b"x" * 1000)
    commands.file(f"{NAME}/logs/console.log".encode(), b"line\n")
    return commands


def at_terminal(*words: str | Path) -> Terminal:
    """Run a command in a fork, with the terminal as its standard streams."""

    def work() -> int:
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        code = run([str(word) for word in words])
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    return Terminal(work)


def lines(terminal: Terminal) -> list[str]:
    """Each line that was on the screen at any time."""
    return ESCAPES.sub("", re.sub(r"\r|\x1b\[[0-9]*[AGJK]", "\n", terminal.said)).split("\n")


def screen(*words: str | Path, code: int = 0) -> list[str]:
    """What a command leaves there, none of it wider than the terminal."""
    with at_terminal(*words) as terminal:
        assert terminal.ended() == code, terminal.said
        assert "Traceback" not in terminal.said
        shown = lines(terminal)
    # A path that is longer than what is left of the line beside a title stays one word.
    assert not [line for line in shown if len(line) > 80 and " " in re.split(" {2,}", line)[-1]]
    return [line for line in shown if line]


def test_ls(commands: Commands) -> None:
    head, _, row = screen("ls")
    assert head.startswith("experiment")
    assert row.startswith(f"{NAME}  ")
    assert [line.split()[0] for line in screen("ls", NAME)[2:]] == [
        "checkpoints/epoch_000012.pt",
        "logs/console.log",
    ]


def test_inspect(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(torch_archive(40, 100))
    shown = screen("inspect", path)
    assert "40 tensors" in " ".join(shown)
    assert len(shown) <= 22
    assert len(screen("inspect", "--all", path)) >= 40
    path = path.rename(tmp_path / f"model-{'x' * 50}.pt")
    assert screen("inspect", path)[:2] == [f"{path.name}:", "PyTorch checkpoint, 12.3 KiB, complete"]


def test_pull(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.file(f"{NAME}/checkpoints/large-{'x' * 60}.pt".encode(), bytes(8 * MIB))
    made = Remote.__init__

    def slow(self: Remote, *arguments: object, **options: object) -> None:
        made(self, *arguments, **options)  # type: ignore[arg-type]
        self.latency = self.link.rtt = 0.1  # some pictures of the bar

    monkeypatch.setattr(Remote, "__init__", slow)
    shown = screen("pull", NAME, tmp_path / "out")
    assert any("/8.0 MiB" in line for line in shown)
    assert any(line.startswith("Pulled 3 files, 8.0 MiB in ") for line in shown)
    assert "Up to date: 3 files." in screen("pull", NAME, tmp_path / "out")


def test_doctor(commands: Commands) -> None:
    save_profile(Profile("default", Address.parse("ssh -p 1 user@127.0.0.1"), id="0f"))
    shown = screen("doctor", code=1)
    assert any(line.startswith("✗ port") and "refuses" in line for line in shown)
    assert any(line.lstrip().startswith("→") for line in shown)


def test_status_watch(commands: Commands, tmp_path: Path) -> None:
    async def told(_: dict[str, object]) -> dict[str, object]:
        return {**STATUS, "mountpoint": str(tmp_path / "mnt")}

    with live(tmp_path / "mnt", {"status": told}), at_terminal("status", "--watch") as terminal:
        terminal.matches("online")
        terminal.matches("2 connections")
        shown = lines(terminal)
        terminal.presses("\x03")
        assert terminal.ended() == 0
        assert max(map(len, shown)) <= 80, max(shown, key=len)
        assert "\x1b[31mbest" not in terminal.said
