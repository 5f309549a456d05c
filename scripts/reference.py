"""The reference of the command line, made from the commands themselves: `python -m scripts.reference` prints it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from vfs.cli import cli

INTRODUCTION = """\
Every command takes `-h` (help) and `-v` (verbose; `-vv` for everything). Options can also be set in the environment, as
`ARTISYNC_` and the option's name (`ARTISYNC_CACHE_SIZE=50GiB`); `artisync connect` saves many of them in the profile. The
command line overrides the environment, which overrides the profile.

Results go to stdout, messages to stderr. In a pipe, tables are tab-separated, without a header.

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 after Ctrl-C; 0 where Ctrl-C is how it ends (`--watch`,
`--follow`, `tensorboard`, `demo`)."""

COMMON = {"--help", "--verbose"}
"""Options that every command has."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text in one line, or lines to show as they are."""

    text: str
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The description of one command."""

    name: str
    """With the commands above it: `artisync cache info`."""
    usage: str
    summary: str
    paragraphs: list[Paragraph]
    options: list[tuple[str, str]]
    commands: list[tuple[str, str]]


def pages() -> Iterator[Page]:
    """A page for `artisync` and for each command, a group before its commands."""
    return _pages(click.Context(cli, info_name="artisync"))


def _pages(ctx: click.Context) -> Iterator[Page]:
    command = ctx.command
    usage = f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    records = [
        param.get_help_record(ctx)
        for param in command.get_params(ctx)
        if isinstance(param, click.Option) and not COMMON & set(param.opts)
    ]
    inner = _commands(ctx)
    yield Page(
        ctx.command_path,
        usage,
        command.get_short_help_str(200),
        _paragraphs(command.help or ""),
        [(record[0], " ".join(record[1].split())) for record in records if record is not None],
        [(str(below.info_name), below.command.get_short_help_str(200)) for below in inner],
    )
    for below in inner:
        yield from _pages(below)


def _commands(ctx: click.Context) -> list[click.Context]:
    """The commands of a group that are not hidden."""
    group = ctx.command
    if not isinstance(group, click.Group):
        return []
    found = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [
        click.Context(command, info_name=name, parent=ctx)
        for name, command in found
        if command is not None and not command.hidden
    ]


def _paragraphs(help: str) -> list[Paragraph]:
    """The paragraphs of a command's docstring, as click reads them."""
    found = []
    for block in inspect.cleandoc(help).split("\n\n"):
        lines = block.strip("\n").split("\n")
        if lines[0] == "\b":
            found.append(Paragraph("\n".join(lines[1:]), verbatim=True))
        else:
            found.append(Paragraph(" ".join(line.strip() for line in lines)))
    return found


def markdown() -> str:
    """`docs/cli.md`."""
    whole = list(pages())
    parts = ["# The command line", "Made by `./scripts/docs` from the commands; do not edit.", INTRODUCTION]
    parts.append(
        _table("command", [(f"[{page.name}](#{_anchor(page)})", page.summary) for page in whole[1:]])
    )
    for page in whole[1:]:
        parts += [f"## {page.name}", f"    {page.usage}"]
        for paragraph in page.paragraphs:
            indent = "    " if paragraph.verbatim else ""
            parts.append("\n".join(f"{indent}{line}" for line in paragraph.text.split("\n")))
        if page.options:
            parts.append(_table("option", [(f"`{names}`", text) for names, text in page.options]))
    return "\n\n".join(parts) + "\n"


def _anchor(page: Page) -> str:
    return page.name.replace(" ", "-")


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    cells = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {head} | |", "|---|---|", *(f"| {left} | {right} |" for left, right in cells)])


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
