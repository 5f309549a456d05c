"""`artisync ls`: what is on the server, with and without a mount."""

from __future__ import annotations

import posixpath
import time
from typing import Any

import click

from vfs.cli import console, places, remote_names
from vfs.cli.options import BASE, Command, given_options, json_option

Row = dict[str, Any]
SORTS = ("name", "size", "files", "changed", "cached")


@click.command(name="ls", cls=Command)
@given_options(*BASE, "transport", "accept_new_host_key")
@click.argument(
    "paths",
    nargs=-1,
    metavar="[PATH]...",
    shell_complete=remote_names.paths(experiments=True, local="dir", begun=True),
)
@json_option()
@click.option("--sort", type=click.Choice(SORTS), default="name", help="Sort key  [default: name]")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
def command(given: dict[str, Any], paths: tuple[str, ...], as_json: bool, sort: str, reverse: bool) -> int:
    """List experiments, or the files in them.

    PATH is an experiment, a directory or a file on the server (exp-1, 'exp-gpt*', exp-1/checkpoints) or in a mount
    (./artifacts/exp-1). Sizes and times sort largest and newest first. Uses a live mount if there is one; without a
    connection, shows what was last seen.
    """
    where = places.where(given, paths)
    names = [path for path in where.paths if path.strip("./")]
    rows: list[Row] = []
    online = True

    def take(report: Row) -> None:
        nonlocal online
        rows.extend(report.get("rows", ()))
        online = report.get("online", online)

    where.follow("ls", take, again=lambda _: rows.clear(), offline=True, paths=names)
    key = sort if not rows or sort in rows[0] else "name"
    rows.sort(key=lambda row: row[key], reverse=reverse != (key != "name"))
    if as_json:
        console.print_json(rows)
        return 0
    if not online:
        console.tell("artisync: the server does not answer; showing what was last seen.")
    if not rows:
        console.tell(f"{' '.join(names) or 'The server'} is empty.")
    elif names:
        console.table(FILE_COLUMNS, [_file(row) for row in rows], first_to_go=(2, 3))
    else:
        console.table(EXPERIMENT_COLUMNS, [_experiment(row) for row in rows], first_to_go=(3, 2, 4, 5))
    return 0


EXPERIMENT_COLUMNS = ("experiment", ">size", ">files", "newest checkpoint", "last change", "cached")
FILE_COLUMNS = ("file", ">size", "last change", "cached")


def _experiment(row: Row) -> tuple[str, ...]:
    newest = row["checkpoint"]
    if newest is not None:
        newest = f"{posixpath.basename(newest)}, {_ago(row['checkpoint_changed'])}"
    size = console.size(row["size"])
    return row["name"], size, str(row["files"]), newest or "-", _ago(row["changed"]), _cached(row)


def _file(row: Row) -> tuple[str, ...]:
    return row["name"], console.size(row["size"]), _ago(row["changed"]), _cached(row)


def _ago(changed: float) -> str:
    return console.ago(time.time() - changed) if changed else "-"


def _cached(row: Row) -> str:
    share = f"{row['cached'] * 100 // max(1, row['size'])}%" if row["size"] else "-"
    return f"{share} pinned" if row["pinned"] else share
