"""`artisync pull`: copies of experiments, as `scp -r` makes them, but resumable, and never of two versions."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.base import paths
from vfs.base.errors import DestinationUnusable, UsageError
from vfs.base.progress import Progress
from vfs.base.quantities import parse_duration
from vfs.cli import console, places, progress, remote_names
from vfs.cli.options import BASE, Command, given_options, json_option
from vfs.frontends import mountpoint as mountpoints

if TYPE_CHECKING:
    from vfs.commands.pull import Order, Outcome


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
        try:
            return time.time() - parse_duration(text)
        except UsageError:
            self.fail(f"{text!r} is not a time; write it like 2h, 3d or 2026-11-25T18:30", param, ctx)


@click.command(name="pull", cls=Command)
@given_options(*BASE, "cache_size", "transport", "accept_new_host_key")
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="[PATH]... DEST",
    shell_complete=remote_names.paths(experiments=True, local="dir"),
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
    complete. Uses a live mount if there is one.
    """
    from vfs.commands.pull import Order

    *chosen, last = names
    if everything == bool(chosen):
        raise UsageError(
            "name experiments or --all, not both"
            if everything
            else f"name an experiment (or --all) and the directory to copy into; {last!r} alone is not enough"
        )
    if watch and dry_run:
        raise UsageError("--watch and --dry-run cannot be combined")
    if watch and as_json:
        raise UsageError("--watch and --json cannot be combined")
    where = places.where(given, chosen)
    order = Order(
        os.fspath(_destination(last)),
        None if everything else where.paths,
        only,
        newer_than,
        dry_run,
        overwrite,
        watch,
    )
    counted, shown = Progress(), _Shown(order, as_json=as_json)
    try:
        try:
            with progress.shown(counted, lambda: shown.resting):
                where.follow("pull", shown.take, counted, **asdict(order))
        finally:
            code = shown.result()
    except KeyboardInterrupt:
        console.tell("Stopped." if watch else "Stopped. Run it again to resume.")
        return 0 if watch else 130
    return code


def _destination(text: str) -> Path:
    """Raises DestinationUnusable for a file, and for a place inside one of our mounts."""
    if not text:
        raise DestinationUnusable("the destination is an empty path")
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
        raise DestinationUnusable(f"cannot create {path}: {error.strerror}") from error
    return path


class _Shown:
    """Prints the progress of a pull. `resting` is the line to draw while a watch waits for the next round."""

    def __init__(self, order: Order, *, as_json: bool) -> None:
        self.resting = ""
        self._last: dict[str, Any] = {}
        self._order = order
        self._as_json = as_json
        self._news = ""
        self._told: list[str] = []
        self._offline = False

    def take(self, report: dict[str, Any]) -> None:
        """Take a report of `pull_run.run`."""
        from vfs.commands.pull import Outcome

        if "outcome" in report:
            self._last = report
            if self._order.watch:
                self._round(Outcome(**report["outcome"]))
        elif "offline" in report:
            if not self._offline:
                console.tell(f"artisync: {report['offline'].rstrip('.')}. Waiting for the server.")
            self._offline = True
            self._rest("Offline")
        elif "fetching" in report:
            self.resting = ""

    def result(self) -> int:
        """Print the outcome of a pull that has ended or was stopped. Returns the exit code."""
        from vfs.commands.pull import Outcome

        if self._order.watch or not self._last:
            return 0
        outcome = Outcome(**self._last["outcome"])
        if self._order.dry_run:
            _tell_plan(self._last["plan"], outcome, as_json=self._as_json)
            return 0
        _tell_outcome(outcome, self._last["seconds"], as_json=self._as_json)
        return 1 if outcome.failed or outcome.unsettled else 0

    def _round(self, outcome: Outcome) -> None:
        """Print what one round of a watch has pulled, where no live line is drawn; and each failure once."""
        if self._offline:
            console.tell("The server answers again.")
        self._offline = False
        if not self._news or outcome.files:
            self._news = f"{datetime.now():%H:%M:%S} {_count(outcome)}"
            if not console.draws(sys.stderr):
                console.tell(self._news)
        lines = _troubles(outcome)
        console.tell_files([line for line in lines if line not in self._told])
        self._told = lines
        self._rest("Watching")

    def _rest(self, state: str) -> None:
        self.resting = f"{state} · {self._news} · Ctrl-C stops"


def _tell_plan(files: list[dict[str, Any]], outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        console.print_json(files)
    else:
        rows = [(file["name"], console.size(file["size"]), file["action"]) for file in files]
        console.table(("file", ">to fetch", "why"), rows)
        if files:
            total = console.size(sum(file["size"] for file in files))
            there = f", {outcome.same} up to date" if outcome.same else ""
            console.tell(f"To pull: {console.count(len(files), 'file')}, {total}{there}.")
        else:
            console.tell(_sentence(_count(outcome)))
    console.tell_files(_troubles(outcome))


def _tell_outcome(outcome: Outcome, seconds: float, *, as_json: bool) -> None:
    if as_json:
        console.print_json({**asdict(outcome), "seconds": round(seconds, 3)})
    told = _count(outcome)
    if outcome.size and seconds > 0.2:
        told += f" in {seconds:.1f} s ({console.rate(outcome.size / seconds)})"
    console.tell(_sentence(told))
    later = "is still being written; pull again later, or use --watch."
    console.tell_files([f"artisync: {name} {later}" for name in outcome.unsettled] + _troubles(outcome))


def _troubles(outcome: Outcome) -> list[str]:
    """A line for each file that failed or was kept, once."""
    lines = [f"artisync: {name}: {reason}" for name, reason in outcome.failed]
    lines += [
        f"artisync: kept {name}, which was changed here; --overwrite replaces it." for name in outcome.kept
    ]
    return list(dict.fromkeys(lines))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _count(outcome: Outcome) -> str:
    """What was pulled: "pulled 2 files, 1.0 MiB, 4 up to date"."""
    if not (outcome.files or outcome.same):
        return (
            "nothing was pulled" if outcome.failed or outcome.kept or outcome.unsettled else "nothing to pull"
        )
    if not outcome.files:
        return f"up to date: {console.count(outcome.same, 'file')}"
    there = f", {outcome.same} up to date" if outcome.same else ""
    return f"pulled {console.count(outcome.files, 'file')}, {console.size(outcome.size)}{there}"
