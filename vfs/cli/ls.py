"""`artisync ls`: what is on the server, with and without a mount."""

from __future__ import annotations

import os
import posixpath
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from vfs.base import config
from vfs.base.errors import ArtisyncError, LinkError, NoSuchPath
from vfs.cli import console
from vfs.cli.options import json_option, settings_options
from vfs.cli.remote_names import Experiment

if TYPE_CHECKING:
    from vfs.files.node import Node
    from vfs.stack import Stack

Row = dict[str, Any]
Unlisted: TypeAlias = "list[tuple[Node, ArtisyncError]]"
SORTS = ("name", "size", "files", "changed", "cached")


@click.command(name="ls")
@settings_options("transport", "accept_new_host_key")
@click.argument("experiment", required=False, type=Experiment())
@json_option()
@click.option("--sort", type=click.Choice(SORTS), default="name", help="By what  [default: name]")
@click.option("--reverse", is_flag=True, help="The other way round.")
def command(
    settings: config.Settings, experiment: str | None, as_json: bool, sort: str, reverse: bool
) -> int:
    """List the experiments, or the files of one EXPERIMENT.

    With size, number of files, newest checkpoint, last change, and how much of it is cached. Numbers are sorted from
    the largest or newest down. Without a connection, what was last seen is shown.
    """
    from vfs import stack

    async def look(opened: Stack) -> tuple[list[Row], bool]:
        unlisted: Unlisted = []
        rows = await (_files(opened, experiment, unlisted) if experiment else _experiments(opened, unlisted))
        silent = any(isinstance(error, LinkError) for _, error in unlisted)
        return rows, opened.remote.link.online and not silent

    rows, online = stack.run(settings, look, console.prompter(), offline=True)
    key = sort if not rows or sort in rows[0] else "name"
    rows.sort(key=lambda row: row[key], reverse=reverse != (key != "name"))
    if as_json:
        console.print_json(rows)
        return 0
    if not online:
        console.tell("artisync: the server does not answer; this is what was last seen of it.")
    if not rows:
        console.tell(f"There is nothing in {experiment or settings.remote_root} yet.")
        return 0
    columns = FILE_COLUMNS if experiment else EXPERIMENT_COLUMNS
    console.table(columns, [_shown(row, experiment is not None) for row in rows])
    return 0


EXPERIMENT_COLUMNS = ("experiment", ">size", ">files", "newest checkpoint", "last change", ">cached")
FILE_COLUMNS = ("file", ">size", "last change", ">cached")


def _shown(row: Row, file: bool) -> tuple[str, ...]:
    now = time.time()
    cached = f"{row['cached'] * 100 // max(1, row['size'])}%" if row["size"] else "-"
    changed = console.ago(now - row["changed"]) if row["changed"] else "-"
    if file:
        return row["name"], console.size(row["size"]), changed, cached
    newest = row["checkpoint"]
    if newest is not None:
        newest = f"{posixpath.basename(newest)}, {console.ago(now - row['checkpoint_changed'])}"
    return row["name"], console.size(row["size"]), str(row["files"]), newest or "-", changed, cached


async def _experiments(stack: Stack, unlisted: Unlisted) -> list[Row]:
    from vfs.files.experiments import experiments, look_through, summary

    found = await experiments(stack.tree)
    summaries = await look_through(
        found.items(), lambda name, node: summary(stack.tree, name, node, unlisted)
    )
    return [asdict(one) for one in summaries]


async def _files(stack: Stack, name: str, unlisted: Unlisted) -> list[Row]:
    from vfs.files.experiments import find_path, walk
    from vfs.files.node import Kind
    from vfs.files.xattrs import cached_bytes

    tree = stack.tree
    top = await find_path(tree, name)
    if top.kind is not Kind.DIRECTORY:
        raise NoSuchPath(f"{name} is a file; `artisync inspect` and `artisync cat` show what is in it")
    rows = []
    async for node in walk(tree, top, unlisted):
        if node.kind not in (Kind.FILE, Kind.LINK):
            continue
        link = node.kind is Kind.LINK
        rows.append(
            {
                "name": os.fsdecode(posixpath.relpath(node.path, top.path))
                + (f" -> {os.fsdecode(node.target)}" if link else ""),
                "size": 0 if link else node.version.size,
                "changed": float(node.version.mtime),
                "cached": 0 if link else await cached_bytes(tree, node),
            }
        )
    return rows
