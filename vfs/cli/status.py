"""`artisync status`: the state of live mounts."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click

from vfs.base.errors import ArtisyncError, NotMounted
from vfs.cli import console, dead, logs, status_view
from vfs.cli.options import Command, MountPoint, json_option
from vfs.control import client, register

INTERVAL = 1.0
"""Seconds between two updates of `--watch`."""

ANSWER_SECONDS = 5.0


@click.command(name="status", cls=Command)
@click.argument("mountpoint", type=MountPoint(), required=False)
@json_option("Print JSON; with --watch, a line per second.")
@click.option("--watch", is_flag=True, help="Update every second until Ctrl-C.")
@logs.verbose_option
def command(mountpoint: Path | None, as_json: bool, watch: bool) -> int:
    """Show mounts: link, cache, transfers.

    All mounts, or the one that MOUNTPOINT is or is in. The exit code is 1 if one is dead or does not answer.
    """
    if watch:
        try:
            _watch(mountpoint, as_json=as_json)
        except KeyboardInterrupt:  # the ordinary way to stop watching
            return 0
    mounts = _ask(mountpoint)
    if as_json:
        console.print_json({"mounts": mounts})
    else:
        _print(mounts)
    return 1 if any("error" in mount for mount in mounts) else 0


def _watch(mountpoint: Path | None, *, as_json: bool) -> NoReturn:
    out = console.stdout()
    live = None
    if not as_json and console.draws(sys.stdout):
        from rich.live import Live

        live = Live(console=out, auto_refresh=False)
    with live or nullcontext():
        while True:
            mounts = _ask(mountpoint)
            if live is not None:
                live.update(status_view.render(mounts, out.width), refresh=True)
            elif as_json:
                click.echo(json.dumps({"mounts": mounts}))
            else:
                _print(mounts)
            sys.stdout.flush()
            time.sleep(INTERVAL)


def _print(mounts: list[dict[str, Any]]) -> None:
    out = console.stdout()
    out.print(status_view.render(mounts, out.width), soft_wrap=True)


def _ask(mountpoint: Path | None) -> list[dict[str, Any]]:
    """What each mount answers; if it does not answer, where it is and `error`."""
    records = register.mounts()
    if mountpoint is not None:  # or a place in one
        records = [record for record in records if record.mountpoint in (mountpoint, *mountpoint.parents)]
    if mountpoint is not None and not records:
        raise dead.around(mountpoint) or NotMounted(f"there is no artisync mount at {mountpoint}")
    answers: list[dict[str, Any]] = []
    if mountpoint is None:
        answers += [
            _unanswered(gone, "dead", dead.error(gone.mountpoint, gone.profile)) for gone in dead.mounts()
        ]
    for record in records:
        try:
            answers.append(client.call(record.socket, "status", timeout=ANSWER_SECONDS))
        except NotMounted:  # unmounted while we asked
            continue
        except ArtisyncError as e:
            answers.append(_unanswered(record, "silent", f"{e}; `artisync unmount --force` ends it"))
    return answers


def _unanswered(record: register.MountRecord, state: str, error: object) -> dict[str, Any]:
    return {
        "mountpoint": str(record.mountpoint),
        "profile": record.profile,
        "pid": record.pid,
        "state": state,
        "error": str(error),
    }
