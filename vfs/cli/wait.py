"""`artisync wait`: until a sync has appeared on the server, and is over."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from vfs.base.errors import ArtisyncError, Unreachable, UsageError
from vfs.base.quantities import parse_duration
from vfs.base.settings import Settings
from vfs.cli import console
from vfs.cli.options import Command, duration_type, json_option, settings_options
from vfs.cli.remote_names import Experiment

if TYPE_CHECKING:
    from vfs.files.experiments import Summary
    from vfs.stack import Stack


AGAIN_SECONDS = 5.0
"""Between two attempts to connect."""


@click.command(name="wait", cls=Command)
@settings_options("transport", "accept_new_host_key")
@click.argument("experiment", type=Experiment())
@click.option(
    "--settle",
    type=duration_type(),
    default="10s",
    show_default=True,
    metavar="TIME",
    help="Time without changes to wait for.",
)
@click.option("--complete", is_flag=True, help="Also wait until every checkpoint is complete.")
@click.option(
    "--timeout", type=duration_type(), metavar="TIME", help="Give up after this time  [default: never]"
)
@json_option("Print the experiment as JSON.")
def command(
    settings: Settings,
    experiment: str,
    settle: str,
    complete: bool,
    timeout: str | None,
    as_json: bool,
) -> int:
    """Wait until an experiment has been synced.

    Returns when EXPERIMENT is on the server and nothing in it has changed for a while. A sync takes minutes to appear.
    """
    from vfs import stack
    from vfs.commands.wait import SILENT

    experiment = experiment.strip("/")
    if not experiment or "/" in experiment:
        raise UsageError(
            f"{experiment!r} is not the name of an experiment (a directory in {settings.remote_root})"
        )
    limit = math.inf if timeout is None else parse_duration(timeout)
    end = time.monotonic() + limit
    last = ""
    kind: type[ArtisyncError] = Unreachable

    with _spinner() as say:

        def tell(text: str, error: type[ArtisyncError]) -> None:
            nonlocal last, kind
            if text != last:
                say(text)
            last, kind = text, error

        async def work(opened: Stack) -> Summary | None:
            from vfs.commands.wait import wait

            quiet = parse_duration(settle)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if timeout is None else end - time.monotonic()):
                    return await wait(opened, experiment, quiet, complete=complete, say=tell)
            return None

        found = None
        while found is None and time.monotonic() < end:
            try:
                found = stack.run(settings, work, console.prompter())
            except stack.AWAY as error:
                tell(f"{SILENT} ({error})", Unreachable)
                time.sleep(min(AGAIN_SECONDS, max(0.0, end - time.monotonic())))
    if found is None:
        raise kind(f"after {limit:g} s: {last}")
    if as_json:
        console.print_json(asdict(found))
    console.tell(f"{experiment} is there: {console.count(found.files, 'file')}, {console.size(found.size)}.")
    return 0


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """Something that is told what is seen: a spinner's text on a terminal, a line per news elsewhere."""
    if not sys.stderr.isatty():
        yield console.tell
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("connecting", spinner="line") as status:
        yield lambda text: status.update(escape(console.printable(text)))
