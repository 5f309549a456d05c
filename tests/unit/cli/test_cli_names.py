"""One way to name things: paths of the server, several of them, and patterns, in every command that takes paths."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.commands.in_memory import ROOT, Commands
from tests.unit.formats.made_files import torch_archive

LOG = b"".join(b"epoch %d\n" % number for number in range(1, 31))
MODEL = torch_archive(3, 100)


@pytest.fixture
def commands(home: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands.on(monkeypatch)
    for name in (b"exp-beta", b"exp-gpt-1", b"exp-gpt-2"):
        commands.file(name + b"/logs/console.log", LOG)
        commands.file(name + b"/checkpoints/model.pt", MODEL)
    return commands


def test_ls_takes_several_and_patterns_and_files(commands: Commands) -> None:
    def names(*words: str) -> list[str]:
        said = commands.run("ls", *words, "--json")
        assert said.code == 0, said.err
        return [row["name"] for row in json.loads(said.out)]

    assert names() == ["exp-beta", "exp-gpt-1", "exp-gpt-2"]
    assert names("exp-beta") == ["checkpoints/model.pt", "logs/console.log"]
    assert names("exp-gpt-1/logs", "exp-gpt-2/logs") == [
        "exp-gpt-1/logs/console.log",
        "exp-gpt-2/logs/console.log",
    ]
    assert names("exp-gpt-*/logs/*.log") == ["exp-gpt-1/logs/console.log", "exp-gpt-2/logs/console.log"]
    assert names("exp-b*/logs") == ["console.log"]
    said = commands.run("ls", "exp-x*")
    assert (said.code, said.err.splitlines()[0]) == (1, b"artisync: nothing on the server matches 'exp-x*'")


def test_cat_takes_patterns_and_a_number_of_lines(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cat(*words: str) -> bytes:
        written: list[bytes] = []
        monkeypatch.setattr("vfs.cli.cat._write", written.append)
        assert commands.run("cat", *words).code == 0
        return b"".join(written)

    assert cat("exp-gpt-*/logs/console.log") == LOG * 2
    assert cat("-n", "2", "exp-beta/logs/console.log") == b"epoch 29\nepoch 30\n"
    assert cat("-n", "0", "exp-beta/logs/console.log") == b""
    assert cat("-n", "99", "exp-beta/logs/console.log") == LOG
    commands.file(b"exp-[1]/a.log", b"x\ny")
    assert cat("exp-[1]/a.log", "-n", "1") == b"y", "a name with brackets is itself"


def test_a_file_beside_the_experiments_has_a_name_too(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.file(b"notes.txt", LOG)
    written: list[bytes] = []
    monkeypatch.setattr("vfs.cli.cat._write", written.append)
    assert commands.run("cat", "notes.txt").code == 0
    assert b"".join(written) == LOG
    assert [row["name"] for row in json.loads(commands.run("ls", "notes.txt", "--json").out)] == ["notes.txt"]
    assert commands.run("pin", "notes.txt").err.startswith(b"Pinned 1 file")
    assert b"no experiment 'note.txt'" in commands.run("cat", "note.txt").err


def test_inspect_looks_into_files_of_the_server(commands: Commands) -> None:
    said = commands.run("inspect", "exp-gpt-*/checkpoints/model.pt")
    assert said.code == 0
    assert said.out.count(b"model.pt: PyTorch checkpoint") == 2
    assert said.out.count(b"3 tensors") == 2
    said = commands.run("inspect", "exp-beta/checkpoints")
    assert (said.code, b"a directory and not a distributed checkpoint" in said.err) == (1, True)


def test_pin_and_unpin_take_patterns(commands: Commands) -> None:
    assert commands.run("pin", "exp-gpt-*").err.startswith(b"Pinned 4 files")
    rows = json.loads(commands.run("ls", "--json").out)
    assert [row["pinned"] for row in rows] == [False, True, True]
    assert commands.run("unpin", "exp-gpt-*/logs").err == b"Unpinned 2 files.\n"


def test_pull_takes_files_directories_and_patterns(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    said = commands.run("pull", "exp-gpt-*", "exp-beta/logs", "exp-beta/checkpoints/model.pt", out)
    assert said.code == 0, said.err
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    below = ("checkpoints/model.pt", "logs/console.log")
    whole = [f"exp-gpt-{number}/{name}" for number in (1, 2) for name in below]
    assert found == sorted([*whole, "logs/console.log", "model.pt"])
    assert (out / "model.pt").read_bytes() == MODEL
    again = commands.run("pull", "exp-beta/checkpoints/model.pt", out)
    assert (again.code, again.err) == (0, b"Up to date: 1 file.\n")
    said = commands.run("pull", "exp-gpt-1/logs", "exp-gpt-2/logs", out)
    assert (said.code, b"would be copied to logs" in said.err) == (2, True)


def test_only_counts_from_the_experiment(commands: Commands, tmp_path: Path) -> None:
    assert commands.run("pull", "exp-beta/checkpoints", tmp_path / "copy", "--only", "checkpoints").code == 0
    assert os.listdir(tmp_path / "copy/checkpoints") == ["model.pt"]


@pytest.mark.parametrize("path", ["a", "a/logs", "exp-beta/first", "exp-beta/first/x.log", "exp-b/first"])
def test_links_in_a_circle_are_told_and_not_taken_for_absent(
    commands: Commands, tmp_path: Path, path: str
) -> None:
    commands.files.symlink(ROOT + b"/a", b"b")
    commands.files.symlink(ROOT + b"/b", b"a")
    commands.files.symlink(ROOT + b"/exp-beta/first", b"second")
    commands.files.symlink(ROOT + b"/exp-beta/second", b"first")
    for words in (["ls"], ["cat"], ["inspect"], ["pin"], ["pull", tmp_path / "copy"]):
        said = commands.run(words[0], path, *words[1:])
        assert said.code == 1
        assert said.err.startswith(
            b"artisync: %s leads in a circle" % path.replace("exp-b/", "exp-beta/").encode()
        )
        assert b"form a loop" in said.err, said.err


def test_a_pattern_passes_over_links_that_lead_nowhere(commands: Commands) -> None:
    commands.files.symlink(ROOT + b"/exp-beta/logs-1", b"logs-1")
    commands.files.symlink(ROOT + b"/exp-beta/logs-2", b"nothing")
    for pattern in ("exp-beta/logs*/*.log", "exp-beta/logs*"):
        said = commands.run("ls", pattern, "--json")
        assert [row["name"].removeprefix("exp-beta/logs/") for row in json.loads(said.out)] == ["console.log"]
    commands.files.symlink(ROOT + b"/latest.log", b"exp-beta/logs/console.log")
    commands.files.symlink(ROOT + b"/later", b"nothing")
    assert [row["name"] for row in json.loads(commands.run("ls", "lat*", "--json").out)] == ["latest.log"]
    said = commands.run("ls", "exp-beta/logs-*")
    assert b"nothing on the server matches" in said.err
