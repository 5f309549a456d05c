"""The documents say what is there: their command lines parse, their links lead to files, the map names every module."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vfs.cli import cli

TOP = Path(__file__).parents[2]
DOCUMENTS = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")])

FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}(\S.*)$", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
PROMPT = re.compile(r"^(\$ |sudo )*")
PLACEHOLDERS = ("artisync …", "artisync COMMAND")
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def command_lines(text: str) -> Iterator[str]:
    """What starts with `artisync ` in code blocks and code spans, unless it leaves the command open."""
    blocks = [line for block in FENCED.findall(text) for line in block.splitlines()]
    # a span may be broken over two lines of a paragraph, an indented line is none
    prose = INDENTED.sub("", FENCED.sub("", text))
    spans = [" ".join(span.split()) for span in SPAN.findall(prose)]
    for line in [*blocks, *INDENTED.findall(text), *spans]:
        bare = PROMPT.sub("", line.strip())
        if bare.startswith("artisync ") and not bare.startswith(PLACEHOLDERS):
            yield bare


def check(line: str) -> None:
    """Raises click.UsageError for a command, an option or a value that there is not. Nothing is run."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    args: list[str] = []
    for word in words:  # comments are left out by shlex
        if set(word) <= set("|&;<>()"):
            break
        args.append(word)
    group: click.Command = cli
    name, *rest = args
    context = click.Context(cli, info_name=name)
    while isinstance(group, click.Group) and rest and not rest[0].startswith("-"):
        name, *rest = rest
        found = group.get_command(context, name)
        if found is None:
            raise click.UsageError(f"there is no command {name}")
        group, context = found, click.Context(found, info_name=name, parent=context)
    try:
        group.make_context(name, rest, parent=context.parent)
    except click.MissingParameter:  # "`artisync mount` fails at once" names a command, and is no line to type
        pass
    except click.exceptions.NoArgsIsHelpError:
        pass


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_every_command_line_parses(document: Path) -> None:
    if document.name == "cli.md":
        pytest.skip("made from the commands, with placeholders")
    wrong = []
    for line in command_lines(document.read_text("utf-8")):
        try:
            check(line)
        except click.ClickException as error:
            wrong.append(f"{line}\n    {error.format_message()}")
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_found() -> None:
    text = "Run `artisync mont ./a`, or:\n\n    artisync pull --onyl logs exp-1 ./a   # all\n    $ artisync ls | head -x\n"
    lines = list(command_lines(text))
    assert [line.split()[1] for line in lines] == ["pull", "ls", "mont"]
    for line, said in zip(lines, ("--onyl", None, "mont"), strict=True):
        if said is None:
            check(line)
        else:
            with pytest.raises(click.UsageError, match=said):
                check(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    text = document.read_text("utf-8")
    broken = []
    for target in (first or second for first, second in LINK.findall(FENCED.sub("", text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = document.parent / path if path else document
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert not broken


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_every_script_that_is_named_is_there(document: Path) -> None:
    named = set(re.findall(r"\bscripts/[\w.-]*\w", document.read_text("utf-8")))
    assert [name for name in sorted(named) if not (TOP / name).exists()] == []


def test_the_map_of_the_architecture_names_every_module_and_no_other() -> None:
    text = (TOP / "docs" / "ARCHITECTURE.md").read_text("utf-8")
    files = [path.relative_to(TOP / "vfs") for path in (TOP / "vfs").rglob("*.py") if "__" not in path.name]
    above = {str(path) if len(path.parts) == 1 else f"{path.parts[0]}/" for path in files}
    named = set(re.findall(r"[\w/]+\.py\b|\w+/(?=\W)", text))
    missing = {name for name in above if not {name, f"vfs/{name}"} & named}
    assert not missing, f"docs/ARCHITECTURE.md says nothing of {', '.join(sorted(missing))}"
    known = {str(path) for path in files} | {path.name for path in files}
    gone = {name for name in named if name.endswith(".py") and name.removeprefix("vfs/") not in known}
    assert not gone, f"docs/ARCHITECTURE.md names what is not there: {', '.join(sorted(gone))}"


def test_the_picture_of_the_terminal_shows_commands_that_there_are() -> None:
    drawing = ElementTree.parse(TOP / "docs" / "terminal.svg")
    texts = [
        (element.text or "").replace("\xa0", " ")
        for element in drawing.iter()
        if element.tag.endswith("}text")
    ]
    typed = [text.removeprefix("$ ").strip() for text in texts if text.startswith("$ ")]
    ours = [line for line in typed if line.startswith("artisync ")]
    for line in ours:
        check(line)
    assert {line.split()[1] for line in ours} >= {"ls", "status", "inspect", "doctor"}
    assert any(line.startswith("ls -l artifacts") for line in typed)
