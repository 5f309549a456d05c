"""`artisync inspect FILE`: what a file of a local path, such as one in a mount, holds."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfs.base.errors import UsageError
from vfs.base.paths import open_file
from vfs.cli import console, logs
from vfs.cli.options import json_option


@click.command(name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@json_option()
@logs.verbose_option
def command(file: Path, as_json: bool) -> int:
    """What a checkpoint or an event file holds: tensors, shapes, tags, steps; runs no pickle.

    In a mount, only the bytes that tell are fetched.
    """
    from vfs.formats.describe import inspect_file, render

    try:
        with open(open_file(file), "rb", buffering=0) as opened:
            fd = opened.fileno()
            size = os.fstat(fd).st_size
            report = inspect_file(
                os.fsencode(file.name), size, lambda offset, length: os.pread(fd, length, offset)
            )
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if as_json:
        console.print_json(report.as_json())
    else:
        console.say(*render(report).split("\n"))
    return 0
