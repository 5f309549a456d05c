"""`artisync cat`: a file of the server to stdout, for pipes and for machines without FUSE."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vfs.base import config
from vfs.cli import console
from vfs.cli.options import settings_options
from vfs.cli.remote_names import RemotePath

if TYPE_CHECKING:
    from vfs.stack import Stack


@click.command(name="cat")
@settings_options("transport", "accept_new_host_key")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=RemotePath())
@click.option("--follow", "-f", is_flag=True, help="Then go on with what is appended, until Ctrl-C.")
def command(settings: config.Settings, paths: tuple[str, ...], follow: bool) -> int:
    """Write files of the server to stdout: `artisync cat exp-1/logs/console.log`.

    Needs no mount; without a connection, what is cached is shown.
    """
    from vfs import stack
    from vfs.base.errors import UsageError

    if follow and len(paths) > 1:
        raise UsageError("one file can be followed at a time")

    async def work(opened: Stack) -> None:
        from vfs.commands.cat import copy
        from vfs.commands.cat import follow as following

        for path in paths:
            if follow:
                await following(opened, path, _write, lambda text: console.tell(f"artisync: {text}"))
            else:
                await copy(opened, path, _write)

    try:
        stack.run(settings, work, console.prompter(), offline=True)
    except KeyboardInterrupt:
        return 0 if follow else 130
    return 0


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
