"""`artisync demo`: a live mount without a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from vfs.cli import console, logs
from vfs.cli.options import Command, MountPoint


@click.command(name="demo", cls=Command)
@logs.verbose_option
@click.argument("mountpoint", type=MountPoint(), required=False)
def command(mountpoint: Path | None) -> int:
    """Mount generated experiments, without a cluster.

    Two of them keep training. They are mounted at MOUNTPOINT until Ctrl-C, which removes everything.
    """
    from vfs.commands.demo.run import run

    return run(mountpoint, lambda text: console.tell(*text.split("\n")))
