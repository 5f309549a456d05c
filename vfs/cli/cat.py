"""`artisync cat`: files of the server to stdout, for pipes and for machines without FUSE."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from vfs.base.errors import ArtisyncError, UsageError
from vfs.cli import console, places, remote_names
from vfs.cli.options import BASE, Command, Number, given_options

LINES = 10
"""Lines that `--follow` prints first, as tail(1) does."""


@click.command(name="cat", cls=Command)
@given_options(*BASE, "transport", "accept_new_host_key")
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...", shell_complete=remote_names.paths(local="file")
)
@click.option("--follow", "-f", is_flag=True, help="Print the end of the file, then what is appended.")
@click.option(
    "--lines",
    "-n",
    type=Number(0),
    help=f"Print only the last N lines  [default: all; with --follow: {LINES}]",
    metavar="N",
)
def command(given: dict[str, Any], paths: tuple[str, ...], follow: bool, lines: int | None) -> int:
    """Print files from the server.

    PATH is on the server (exp-1/logs/console.log, 'exp-*/logs/console.log') or in a mount. Uses a live mount if
    there is one; without a connection, prints what is cached.
    """
    if follow and len(paths) > 1:
        raise UsageError("--follow takes one file")
    if follow and lines is None:
        lines = LINES
    where = places.where(given, paths)
    begun = False

    def take(report: dict[str, Any]) -> None:
        nonlocal begun
        begun = True
        if "tell" in report:
            console.tell(f"artisync: {report['tell']}")
        _write(report.get("data", b""))

    def again(error: ArtisyncError) -> None:
        if begun:  # what was written must not be written twice
            raise error

    try:
        where.follow("cat", take, again=again, offline=True, paths=where.paths, lines=lines, follow=follow)
    except KeyboardInterrupt:
        return 0 if follow else 130
    return 0


def _write(data: bytes) -> None:
    view = memoryview(data)
    with console.writing_output():
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]
