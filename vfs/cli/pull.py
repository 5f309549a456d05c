"""`artisync pull`: copies of experiments, as `scp -r` makes them, but resumable, and never of two versions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.base import config, paths
from vfs.base.errors import DestinationUnusable, LinkError, UsageError
from vfs.base.progress import Progress
from vfs.cli import console, progress
from vfs.cli.options import json_option, settings_options
from vfs.cli.remote_names import Experiment
from vfs.commands.pull_dest import Destination
from vfs.frontends.fuse import mountpoint as mountpoints

if TYPE_CHECKING:
    from vfs.commands.pull import Item, Outcome, Pull
    from vfs.stack import Stack

WATCH_SECONDS = 2.0
"""How long `--watch` rests between two looks at least; a look that takes long is followed by a longer rest."""
REST = 10
"""A rest is so many times as long as the look before it, so that a large tree is not asked for all the time."""
LONGEST_REST = 60.0
MOST_TOLD = 20
"""Files that are told of one by one."""


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time of this machine's clock: "2h" ago, "3d" ago, or a date such as 2026-11-25 or 2026-11-25T18:30."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            pass
        days = text.removesuffix("d")
        try:
            seconds = float(days) * 86400 if days != text else config.parse_duration(text)
        except (ValueError, UsageError):
            self.fail(f"{text!r} is no time; write it like 2h, 3d or 2026-11-25T18:30", param, ctx)
        return time.time() - seconds


@click.command(name="pull")
@settings_options("cache_size", "transport", "accept_new_host_key")
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="[EXPERIMENT]... DEST",
    type=Experiment(local="dir"),
)
@click.option("--all", "everything", is_flag=True, help="All experiments.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(("tensorboard", "checkpoints", "logs")),
    help="Only these directories of each experiment; may be given several times.",
)
@click.option("--newer-than", type=Moment(), help="Only files written since then: 2h, 3d, 2026-11-25.")
@click.option("--dry-run", is_flag=True, help="Say what would be pulled, and pull nothing.")
@click.option("--overwrite", is_flag=True, help="Replace also the files that were changed here.")
@click.option("--watch", is_flag=True, help="Go on, and keep DEST up to date until Ctrl-C.")
@json_option("Say what was done as JSON.")
def command(
    settings: config.Settings,
    names: tuple[str, ...],
    everything: bool,
    only: tuple[str, ...],
    newer_than: float | None,
    dry_run: bool,
    overwrite: bool,
    watch: bool,
    as_json: bool,
) -> int:
    """Copy experiments into the directory DEST: `artisync pull exp-1 ./artifacts` makes ./artifacts/exp-1.

    Files that are there already are not fetched again, and what was stopped goes on where it was. Nothing is removed
    from DEST, unless with --overwrite a directory that has become a file. A file that is being written on the server is
    pulled once it is whole.
    """
    from vfs import stack
    from vfs.commands.pull import Selection
    from vfs.commands.pull_journal import Pulled

    *chosen, last = names
    if everything == bool(chosen):
        raise UsageError(
            "name experiments or --all, not both"
            if everything
            else f"name an experiment (or --all) and the directory to copy into; {last!r} alone is not enough"
        )
    if watch and dry_run:
        raise UsageError("--watch and --dry-run do not go together")
    place = _destination(last)
    selection = Selection(frozenset(only), newer_than)
    counted = Progress()
    try:
        with _opened(place) as destination, Pulled(place) as pulled:

            async def work(opened: Stack) -> int:
                from vfs.commands.pull import Pull

                patience = 0.0 if watch else settings.timeout
                pull = Pull(
                    opened, destination, pulled, selection, counted, overwrite=overwrite, patience=patience
                )
                wanted = None if everything else chosen
                if watch:
                    return await _watch(pull, wanted)
                items = await pull.plan(wanted)
                if dry_run:
                    return _tell_plan(items, pull.outcome, as_json=as_json)
                began = time.monotonic()
                try:
                    await pull.fetch(items)
                finally:
                    _tell_outcome(pull.outcome, time.monotonic() - began, as_json=as_json)
                return 1 if pull.outcome.failed or pull.outcome.kept or pull.outcome.unsettled else 0

            with progress.shown(counted):
                return stack.run(settings, work, console.prompter())
    except KeyboardInterrupt:
        console.tell("Stopped; the same command goes on where it was.")
        return 0 if watch else 130


def _destination(text: str) -> Path:
    """Raises DestinationUnusable for a file, and for a place inside one of our mounts."""
    path = Path(text).absolute()
    for place in (path, *path.parents):
        found = mountpoints.mount_info(place)
        if found is not None and found.ours:
            raise DestinationUnusable(f"{path} is inside the mount at {place}, which is read-only")
        if found is not None:
            break
    nearest = paths.existing(path)
    if not nearest.is_dir():
        raise DestinationUnusable(f"{nearest} is a file")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationUnusable(f"{path} cannot be made: {error.strerror}") from error
    return path


def _opened(path: Path) -> Destination:
    try:
        return Destination(path)
    except OSError as error:
        raise DestinationUnusable(f"{path} cannot be opened: {error.strerror}") from error


async def _watch(pull: Pull, wanted: list[str] | None) -> int:
    """Pull again and again; a server that does not answer is waited for."""
    offline = False
    first = True
    told: set[str] = set()
    while True:
        began = time.monotonic()
        try:
            items = await pull.plan(wanted)
            looked = time.monotonic() - began
            await pull.fetch(items)
        except LinkError as error:
            if first:
                raise
            looked = 0.0
            if not offline:
                console.tell(f"artisync: {error or error.hint} It goes on when the server answers.")
            offline = True
        else:
            if offline:
                console.tell("The server answers again.")
            offline = False
            _tell_round(pull, told, first=first)
            first = False
        await asyncio.sleep(min(LONGEST_REST, max(WATCH_SECONDS, REST * looked)))


def _tell_round(pull: Pull, told: set[str], *, first: bool) -> None:
    """Say what one look has brought, and of what it could not bring what was not `told` the time before."""
    outcome, pull.outcome = pull.outcome, type(pull.outcome)()
    if first or outcome.files:
        console.tell(f"{datetime.now():%H:%M:%S} pulled {_count(outcome)}")
    lines = _troubles(outcome)
    _tell_some([line for line in lines if line not in told])
    told.clear()
    told.update(lines)


def _tell_plan(items: list[Item], outcome: Outcome, *, as_json: bool) -> int:
    from vfs.files.node import Kind

    files = [item for item in items if item.node.kind is not Kind.DIRECTORY]
    if as_json:
        console.print_json([{"name": i.name, "size": i.size, "action": i.action.value} for i in files])
    else:
        console.table(
            ("file", ">to fetch", "why"), [(i.name, console.size(i.size), i.action.value) for i in files]
        )
        total = sum(item.size for item in files)
        console.tell(
            f"{console.count(len(files), 'file')}, {console.size(total)}; {outcome.same} are there already."
        )
    _tell_some(_troubles(outcome))
    return 0


def _tell_outcome(outcome: Outcome, seconds: float, *, as_json: bool) -> None:
    if as_json:
        console.print_json({**asdict(outcome), "seconds": round(seconds, 3)})
    rate = console.rate(outcome.size / seconds) if seconds > 0.2 else "at once"
    console.tell(f"Pulled {_count(outcome)} in {seconds:.1f} s ({rate}).")
    _tell_some(
        [
            f"artisync: {name} was being written all the while; pull again later, or with --watch."
            for name in outcome.unsettled
        ]
    )
    _tell_some(_troubles(outcome))


def _troubles(outcome: Outcome) -> list[str]:
    """A line for each file that failed or was kept, once."""
    lines = [f"artisync: {name}: {reason}" for name, reason in outcome.failed]
    lines += [
        f"artisync: {name} was changed here and is left as it is; --overwrite replaces it."
        for name in outcome.kept
    ]
    return list(dict.fromkeys(lines))


def _tell_some(lines: list[str]) -> None:
    for line in lines[:MOST_TOLD]:
        console.tell(line)
    if len(lines) > MOST_TOLD:
        console.tell(f"artisync: {console.count(len(lines) - MOST_TOLD, 'more file')} were left, too.")


def _count(outcome: Outcome) -> str:
    there = f"; {outcome.same} were there already" if outcome.same else ""
    return f"{console.count(outcome.files, 'file')}, {console.size(outcome.size)}{there}"
