"""The documents say what is there: every module has its place in ARCHITECTURE.md, every `artisync` line is one, no link is dead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.promises import ROOT
from vfs.cli import cli

DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
ARCHITECTURE = (ROOT / "docs/ARCHITECTURE.md").read_text()
ROOMS = sorted(path.name for path in (ROOT / "vfs").iterdir() if (path / "__init__.py").exists())
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
INDENTED = re.compile(r"^(?: {4}|\$ )(?:\$ )?(artisync .*)$", re.MULTILINE)


def section(room: str) -> str:
    """What ARCHITECTURE.md says of a room."""
    return ARCHITECTURE.partition(f"\n### {room}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_architecture_names_each_module_in_its_room(room: str) -> None:
    text = section(room)
    assert text, f"no section for {room}"
    modules = (path for path in (ROOT / "vfs" / room).rglob("*.py") if path.name != "__init__.py")
    missing = [str(path.relative_to(ROOT)) for path in modules if f"`{path.name}`" not in text]
    assert missing == []


@pytest.mark.parametrize("room", ROOMS)
def test_architecture_names_no_module_that_is_gone(room: str) -> None:
    there = {path.name for path in (ROOT / "vfs" / room).rglob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", section(room))) - there == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(document: Path) -> None:
    targets = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert [link for link in targets if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_line_names_a_command_and_options_that_exist(document: Path) -> None:
    for line in INDENTED.findall(document.read_text()):
        words = shlex.split(line, comments=True)[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                assert words[0].isupper() or "[" in words[0], line  # COMMAND, as in "artisync COMMAND --help"
                break
            command, words = found, words[1:]
        options = {
            name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
        } | {"--help"}
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
        assert given <= options, line
