"""`artisync wait`: until a sync has appeared on the server, and is over."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import click

from vfs.base import errors
from vfs.base.errors import ArtisyncError, Unreachable, UsageError
from vfs.base.progress import Progress
from vfs.base.quantities import parse_duration
from vfs.cli import console, places, progress, remote_names
from vfs.cli.options import BASE, DURATION, Command, given_options, json_option

AGAIN_SECONDS = 5.0
"""Between two attempts to connect."""


@click.command(name="wait", cls=Command)
@given_options(*BASE, "transport", "accept_new_host_key")
@click.argument("experiment", shell_complete=remote_names.paths(experiments=True))
@click.option(
    "--settle",
    type=DURATION,
    default="10s",
    metavar="TIME",
    help="Time without changes to wait for  [default: 10s]",
)
@click.option("--complete", is_flag=True, help="Also wait until every checkpoint is complete.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after this time  [default: never]")
@json_option("Print the experiment as JSON.")
def command(
    given: dict[str, Any],
    experiment: str,
    settle: str,
    complete: bool,
    timeout: str | None,
    as_json: bool,
) -> int:
    """Wait until an experiment has been synced.

    Returns when EXPERIMENT is on the server and nothing in it has changed for a while. A sync takes minutes to appear.
    Uses a live mount if there is one.
    """
    from vfs import stack
    from vfs.commands.wait import SILENT

    where = places.where(given, ())
    experiment = experiment.strip("/")
    if not experiment or "/" in experiment:
        root = where.settings.remote_root
        raise UsageError(f"{experiment!r} is not the name of an experiment (a directory in {root})")
    limit = math.inf if timeout is None else parse_duration(timeout)
    quiet = parse_duration(settle)
    end = time.monotonic() + limit
    last = "no answer yet"
    kind: type[ArtisyncError] = Unreachable
    found: dict[str, Any] | None = None

    def take(report: dict[str, Any]) -> None:
        nonlocal last, kind, found
        found = report.get("found")
        if found is None:
            if report["text"] != last and not console.draws(sys.stderr):
                console.tell(report["text"])
            last, kind = report["text"], getattr(errors, report["kind"])

    with progress.shown(Progress(), lambda: last):
        while found is None and time.monotonic() < end:
            try:
                asked: dict[str, Any] = {"experiment": experiment, "settle": quiet, "complete": complete}
                where.follow("wait", take, **asked, until=None if timeout is None else end)
            except stack.AWAY as error:
                take({"text": f"{SILENT} ({error})", "kind": "Unreachable"})
                time.sleep(min(AGAIN_SECONDS, max(0.0, end - time.monotonic())))
    if found is None:
        raise kind(f"gave up after {limit:g} s: {last}")
    if as_json:
        console.print_json(found)
    files, total = console.count(found["files"], "file"), console.size(found["size"])
    console.tell(f"{experiment} is there: {files}, {total}.")
    return 0
