"""What draws, at a real pseudo-terminal of 80 columns: no line is longer, no name is broken, nothing is left behind."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from tests.lab.live_mount import live
from tests.lab.terminal import ESCAPES, Terminal
from tests.unit.cli.test_cli_status import STATUS
from tests.unit.commands.in_memory import Commands, Remote
from tests.unit.formats.made_files import safetensors_file, torch_archive
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.cli import pull, run
from vfs.commands.pull import Order, Outcome

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
    # A path, or a command to be copied, that is longer than what is left of the line beside a title stays one word.
    last = {line: re.split(" {2,}", re.sub("`[^`]*`", "``", line))[-1] for line in shown}
    assert not [line for line in shown if len(line) > 80 and " " in last[line]]
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
    name = f"layers.{'block.' * 9}mlp.gate_up_projection"
    path.write_bytes(safetensors_file({f"{name}.{i:02}": ("F32", [5, 5], 100) for i in range(40)}))
    shown = screen("inspect", path)
    assert len(shown) <= 22
    assert [line.split() for line in shown[3:5]] == [
        [f"{name}.00"],
        ["float32", "5", "×", "5", "100", "B"],
    ]
    path = path.rename(tmp_path / f"model-{'x' * 50}.pt")
    assert screen("inspect", path)[:2] == [f"{path.name}:", "safetensors, 9.9 KiB, complete"]


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


def test_results_go_where_stdout_goes_and_not_over_the_bar(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def to_a_file(option: str) -> int:
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), out.open("w"), os.fdopen(2, "w")
        code = run(["pull", NAME, str(tmp_path / "copy"), option])
        sys.stdout.close()
        return code

    for option, told in (("--dry-run", "/epoch_000012.pt\t"), ("--json", '"files": 2')):
        with Terminal(partial(to_a_file, option)) as terminal:
            assert terminal.ended() == 0
        assert told in out.read_text()
        assert told not in terminal.said
    assert [line.split() for line in screen("pull", "--dry-run", NAME, tmp_path / "new")[-6:]] == [
        ["file", "to", "fetch", "why"],
        ["─" * 76],
        [f"{NAME}/checkpoints/epoch_000012.pt"],
        ["1.0", "KiB", "new"],
        [f"{NAME}/logs/console.log", "5", "B", "new"],
        ["To", "pull:", "2", "files,", "1.0", "KiB."],
    ]


def test_nothing_is_drawn_on_a_dumb_terminal(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with at_terminal("pull", NAME, tmp_path / "out") as terminal:
        assert terminal.ended() == 0
    assert terminal.said == "Pulled 2 files, 1.0 KiB.\r\n"

    async def told(_: dict[str, object]) -> dict[str, object]:
        return {**STATUS, "mountpoint": str(tmp_path / "mnt")}

    with live(tmp_path / "mnt", {"status": told}), at_terminal("status", "--watch") as terminal:
        terminal.sees("online")
        terminal.sees("online")
        terminal.presses("\x03")
        assert terminal.ended() == 0


def test_on_a_terminal_that_cannot_draw_a_watch_tells_each_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = pull._Shown(Order("copy", watch=True), as_json=False)
    shown.take({"outcome": asdict(Outcome(files=1, size=3)), "seconds": 0.1})
    assert "pulled 1 file, 3 B" in capsys.readouterr().err
