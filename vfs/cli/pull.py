"""`artisync pull`: copies of experiments, as `scp -r` makes them, but resumable, and never of two versions."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.base import paths
from vfs.base.errors import DestinationUnusable, LinkError, UsageError
from vfs.base.progress import Progress
from vfs.base.quantities import parse_duration
from vfs.cli import console, places, progress
from vfs.cli.options import BASE, Command, given_options, json_option
from vfs.cli.remote_names import Experiment
from vfs.commands.pull_dest import PullDirectory
from vfs.frontends import mountpoint as mountpoints

if TYPE_CHECKING:
    from vfs.commands.pull import Item, Outcome, Pull
    from vfs.stack import Stack

WATCH_SECONDS = 2.0
"""How long `--watch` rests between two looks at least; a look that takes long is followed by a longer rest."""
REST = 10
"""A rest is this many times as long as the look before it, so that a large tree is not listed without pause."""
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
            seconds = float(days) * 86400 if days != text else parse_duration(text)
        except (ValueError, UsageError):
            self.fail(f"{text!r} is no time; write it like 2h, 3d or 2026-11-25T18:30", param, ctx)
        return time.time() - seconds


@click.command(name="pull", cls=Command)
@given_options(*BASE, "cache_size", "transport", "accept_new_host_key")
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="[PATH]... DEST",
    type=Experiment(local="dir"),
)
@click.option("--all", "everything", is_flag=True, help="Pull all experiments.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(("tensorboard", "checkpoints", "logs")),
    help="Only this directory of each experiment; repeatable.",
)
@click.option("--newer-than", type=Moment(), help="Only files written since: 2h, 3d, 2026-11-25.")
@click.option("--dry-run", is_flag=True, help="Show what would be pulled.")
@click.option("--overwrite", is_flag=True, help="Also replace files changed here.")
@click.option("--watch", is_flag=True, help="Keep DEST up to date until Ctrl-C.")
@json_option()
def command(
    given: dict[str, Any],
    names: tuple[str, ...],
    everything: bool,
    only: tuple[str, ...],
    newer_than: float | None,
    dry_run: bool,
    overwrite: bool,
    watch: bool,
    as_json: bool,
) -> int:
    """Copy experiments or files to this machine.

    \b
    artisync pull exp-1 ./copy                 (makes ./copy/exp-1)
    artisync pull 'exp-gpt*' ./copy
    artisync pull exp-1/checkpoints/best_model.pt .
    artisync pull --all --only tensorboard --watch ./copy

    Only what is missing is fetched, and a pull that was stopped resumes. Nothing is removed from DEST, except with
    --overwrite a directory that has become a file. A file that is being written on the server is pulled once it is
    complete.
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
    where = places.where(given, chosen)
    settings = where.settings
    place = _destination(last)
    selection = Selection(frozenset(only), newer_than)
    counted, resting = Progress(), Resting()
    try:
        with _opened(place) as destination, Pulled(place) as pulled:

            async def work(opened: Stack) -> int:
                from vfs.commands.pull import Pull

                patience = 0.0 if watch else settings.timeout
                pull = Pull(
                    opened, destination, pulled, selection, counted, overwrite=overwrite, patience=patience
                )
                wanted = None if everything else where.paths
                if watch:
                    return await _watch(pull, wanted, resting)
                items = await pull.plan(wanted)
                if dry_run:
                    return _tell_plan(items, pull.outcome, as_json=as_json)
                began = time.monotonic()
                try:
                    await pull.fetch(items)
                finally:
                    _tell_outcome(pull.outcome, time.monotonic() - began, as_json=as_json)
                return 1 if pull.outcome.failed or pull.outcome.unsettled else 0

            with progress.shown(counted, lambda: resting.text):
                return stack.run(settings, work, console.prompter())
    except KeyboardInterrupt:
        console.tell("Stopped." if watch else "Stopped. Run it again to resume.")
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


def _opened(path: Path) -> PullDirectory:
    try:
        return PullDirectory(path)
    except OSError as error:
        raise DestinationUnusable(f"{path} cannot be opened: {error.strerror}") from error


@dataclass(slots=True)
class Resting:
    """What is drawn while a watch has nothing to do."""

    text: str = ""


async def _watch(pull: Pull, wanted: list[str] | None, resting: Resting) -> int:
    """Pull again and again; a server that does not answer is waited for."""
    first = True
    told: set[str] = set()
    news = "up to date"
    offline = False
    while True:
        began = time.monotonic()
        try:
            items = await pull.plan(wanted)
            looked = time.monotonic() - began
            if any(item.size for item in items):
                resting.text = ""
            await pull.fetch(items)
        except LinkError as error:
            if first:
                raise
            looked = 0.0
            if not offline:
                why = (str(error) or error.hint).rstrip(".")
                console.tell(f"artisync: {why}. Waiting for the server.")
            offline = True
            state = "Offline"
        else:
            if offline:
                console.tell("The server answers again.")
            offline = False
            news = _tell_round(pull, told, first=first) or news
            first = False
            state = "Watching"
        resting.text = f"{state} · {news} · Ctrl-C stops"
        await asyncio.sleep(min(LONGEST_REST, max(WATCH_SECONDS, REST * looked)))


def _tell_round(pull: Pull, told: set[str], *, first: bool) -> str:
    """What one look has brought, a line where nothing is drawn; also tells what it could not bring and is not in `told`."""
    outcome, pull.outcome = pull.outcome, type(pull.outcome)()
    news = ""
    if first or outcome.files:
        news = f"{datetime.now():%H:%M:%S} {_count(outcome)}"
        if not sys.stderr.isatty():
            console.tell(news)
    lines = _troubles(outcome)
    _tell_some([line for line in lines if line not in told])
    told.clear()
    told.update(lines)
    return news


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
            f"{console.count(len(files), 'file')}, {console.size(total)}; {outcome.same} up to date."
        )
    _tell_some(_troubles(outcome))
    return 0


def _tell_outcome(outcome: Outcome, seconds: float, *, as_json: bool) -> None:
    if as_json:
        console.print_json({**asdict(outcome), "seconds": round(seconds, 3)})
    told = _count(outcome)
    if outcome.size and seconds > 0.2:
        told += f" in {seconds:.1f} s ({console.rate(outcome.size / seconds)})"
    console.tell(f"{told[0].upper()}{told[1:]}.")
    _tell_some(
        [
            f"artisync: {name} is still being written; pull again later, or use --watch."
            for name in outcome.unsettled
        ]
    )
    _tell_some(_troubles(outcome))


def _troubles(outcome: Outcome) -> list[str]:
    """A line for each file that failed or was kept, once."""
    lines = [f"artisync: {name}: {reason}" for name, reason in outcome.failed]
    lines += [
        f"artisync: kept {name}, which was changed here; --overwrite replaces it." for name in outcome.kept
    ]
    return list(dict.fromkeys(lines))


def _tell_some(lines: list[str]) -> None:
    for line in lines[:MOST_TOLD]:
        console.tell(line)
    if len(lines) > MOST_TOLD:
        console.tell(f"artisync: … and {console.count(len(lines) - MOST_TOLD, 'more file')}.")


def _count(outcome: Outcome) -> str:
    """What was brought: "pulled 2 files, 1.0 MiB, 4 up to date"."""
    if not (outcome.files or outcome.same):
        return (
            "nothing was pulled" if outcome.failed or outcome.kept or outcome.unsettled else "nothing to pull"
        )
    if not outcome.files:
        return f"up to date: {console.count(outcome.same, 'file')}"
    there = f", {outcome.same} up to date" if outcome.same else ""
    return f"pulled {console.count(outcome.files, 'file')}, {console.size(outcome.size)}{there}"
