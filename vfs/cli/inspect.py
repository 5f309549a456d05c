"""`artisync inspect PATH…`: what files hold, on this machine, in a mount or on the server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.cli import console, places, remote_names
from vfs.cli.options import BASE, Command, given_options, json_option

if TYPE_CHECKING:
    from vfs.formats.report import Report
    from vfs.stack import Stack


@click.command(name="inspect", cls=Command)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...", shell_complete=remote_names.paths(local="file")
)
@click.option("--all", "everything", is_flag=True, help="List every tensor, column and tag.")
@json_option("Print JSON; for several files, a list.")
@given_options(*BASE, "transport", "accept_new_host_key")
def command(given: dict[str, Any], paths: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Show what a checkpoint or event file holds.

    Tensors, dtypes, shapes, epoch; tags and steps; columns and rows. Reads only headers, and never runs a pickle. PATH is
    a local file, in a mount or not, or a file on the server (exp-1/checkpoints/best_model.pt). For a distributed
    checkpoint it is the directory, or one shard.
    """
    from vfs.formats.report import render

    first, width = True, console.stdout().width if sys.stdout.isatty() else None
    if as_json:
        found = [report.as_json() for report in _reports(given, paths)]
        console.print_json(found[0] if len(found) == 1 else found)
        return 0
    for report in _reports(given, paths):
        console.say(*([] if first else [""]), *render(report, everything=everything, width=width).split("\n"))
        first = False
    return 0


def _reports(given: dict[str, Any], paths: tuple[str, ...]) -> Iterator[Report]:
    from vfs.commands.inspect import inspect_local

    if all(places.is_local(path) for path in paths):
        yield from (inspect_local(Path(path)) for path in paths)
        return
    where = places.where(given, paths)
    files = where.files()
    if files is not None:
        yield from (inspect_local(path) for path in files)
        return
    from vfs import stack
    from vfs.commands.inspect import inspect
    from vfs.commands.patterns import expand

    async def work(opened: Stack) -> list[Report]:
        return [await inspect(opened, path) for path in await expand(opened.tree, where.paths)]

    yield from stack.run(where.settings, work, console.prompter(), offline=True)
