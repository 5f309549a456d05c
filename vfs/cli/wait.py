"""`artisync wait`: until a sync has appeared on the server, and is over."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from vfs import config
from vfs.cli import console
from vfs.cli.options import duration_type, json_option, settings_options
from vfs.cli.remote_names import Experiment
from vfs.errors import WaitedTooLong

if TYPE_CHECKING:
    from vfs.experiments import Summary
    from vfs.stack import Stack


@click.command(name="wait")
@settings_options("transport", "accept_new_host_key")
@click.argument("experiment", type=Experiment())
@click.option(
    "--settle",
    type=duration_type(),
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How long nothing in it may have changed.",
)
@click.option("--complete", is_flag=True, help="Wait also until every checkpoint is whole.")
@click.option(
    "--timeout", type=duration_type(), metavar="TIME", help="Give up after so long  [default: never]"
)
@json_option("Say what is there then as JSON.")
def command(
    settings: config.Settings,
    experiment: str,
    settle: str,
    complete: bool,
    timeout: str | None,
    as_json: bool,
) -> int:
    """Return when EXPERIMENT is on the server and has been quiet for a while: a sync takes minutes to appear."""
    from vfs import stack

    limit = config.parse_duration(timeout) if timeout is not None else None

    with _spinner() as say:

        async def work(opened: Stack) -> Summary:
            from vfs.wait import wait

            last = ""

            def tell(text: str) -> None:
                nonlocal last
                if text != last:
                    say(text)
                last = text

            try:
                async with asyncio.timeout(limit):
                    return await wait(
                        opened, experiment, config.parse_duration(settle), complete=complete, say=tell
                    )
            except TimeoutError as error:
                raise WaitedTooLong(f"after {timeout}: {last}") from error

        found = stack.run(settings, work, console.prompter())
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
