"""On a terminal of 80 columns: summaries, tables and errors."""

from __future__ import annotations

import re

import click
import pytest

from scripts.reference import pages
from tests.unit.conftest import Artisync
from vfs.cli import COMMANDS, console, load


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_no_summary_is_cut(artisync: Artisync) -> None:
    for page in pages():
        assert len(page.summary) <= 50, page.summary
    assert "..." not in artisync("--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_connection_options_come_last_and_no_line_is_longer_than_the_terminal(
    artisync: Artisync, name: str
) -> None:
    text = artisync(name, "--help").out
    assert all(len(line) <= 80 and not re.search(r"\w-$", line) for line in text.splitlines()), text
    own, _, connection = text.partition("Connection and cache options:")
    assert "--profile NAME" not in own
    assert "--help" not in connection
    assert "Give up after" not in connection
    if not isinstance(command := load(name), click.Group):
        options = [line.split()[0] for line in own.splitlines() if line.startswith("  -")]
        assert options[-2] == "-v,"
        assert options[-1] in ("-h,", "--help")
    assert "<=" not in text
    assert ">=" not in text
    if not isinstance(command, click.Group) and any("--ssh" in param.opts for param in command.params):
        assert re.search(r"--ssh LINE", connection)


def test_names_are_never_broken_and_columns_go_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    name = "exp-gpt-small-lr1e-4-with-a-rather-long-name"
    columns = ("experiment", ">size", ">files", "newest checkpoint", "last change", "cached")
    row = (name, "12.0 MiB", "200", "epoch_000012.pt, 3 min ago", "just now", "100% pinned")
    console.table(columns, [row], first_to_go=(3, 2, 4, 5))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert shown[-1] == f"{name}  12.0 MiB  just now     100% pinned"
    assert len(shown) == 3
    capsys.readouterr()
    longer = "vision-resnet50-imagenet-cosine-anneal-label-smoothing-0.1-run-2026-11-28"
    console.table(columns, [row, (longer, "5.6 MiB", *row[2:])], first_to_go=(3, 2, 4, 5))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert shown[2:] == [
        f"{name}  12.0 MiB  just now     100% pinned",
        longer,
        f"{' ' * len(name)}   5.6 MiB  just now     100% pinned",
    ]
    assert max(map(len, shown)) <= 80
    console.table(("file", ">size"), [("d/" * 60 + "f", "1 B")], first_to_go=(1,))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[-2:]] == ["d/" * 60 + "f", "1 B"]
    console.table(("profile", "mounted at"), [("default", "/home/me/" + "a" * 64)])
    assert capsys.readouterr().out.splitlines()[-2:] == ["default", f"       /home/me/{'a' * 64}"]


def test_errors_wrap_at_words_and_commands_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.wrap("  python3 -c 'import torch; print(1)'", 20) == [
        "  python3 -c 'import torch; print(1)'"
    ]
    line = "The host does not answer. Is the container running, and is the VPN up? Then `artisync doctor --timeout 5s` it"
    console.tell(line)
    assert capsys.readouterr().err == f"{line}\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    console.tell(line)
    lines = capsys.readouterr().err.splitlines()
    assert all(len(one) <= 80 for one in lines)
    assert " ".join(lines) == line
    assert any("`artisync doctor --timeout 5s`" in one for one in lines)
