"""`artisync status`: what live mounts say of themselves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from vfs import control
from vfs.cli import console, logs
from vfs.cli.options import MountPoint
from vfs.errors import ArtisyncError, MountPointUnusable


@click.command(name="status")
@click.argument("mountpoint", type=MountPoint(), required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@logs.verbose_option
def command(mountpoint: Path | None, as_json: bool, watch: bool) -> int:
    """What the mounts are doing: link, cache, traffic, fetches under way."""
    while True:
        found = _ask(mountpoint)
        if watch and not as_json:
            click.clear()
        if as_json:
            click.echo(json.dumps({"mounts": found}, indent=None if watch else 2))
        else:
            click.echo("\n\n".join(map(_text, found)) or "nothing is mounted")
        if not watch:
            return 0
        time.sleep(1.0)


def _ask(mountpoint: Path | None) -> list[dict[str, Any]]:
    records = [record for record in control.mounts() if mountpoint in (None, record.mountpoint)]
    if mountpoint is not None and not records:
        raise MountPointUnusable(f"{mountpoint} is not a live mount of artisync")
    answers = []
    for record in records:
        try:
            answers.append(control.call(record.socket, "status"))
        except ArtisyncError as error:
            answers.append({"mountpoint": str(record.mountpoint), "pid": record.pid, "error": str(error)})
    return answers


def _text(status: dict[str, Any]) -> str:
    place = console.printable(str(status["mountpoint"]))
    if "error" in status:
        return f"{place}: no answer from process {status['pid']} ({status['error']})"
    cache, remote = status["cache"], status["remote"]
    used, limit = console.size(cache.get("disk_bytes", 0)), console.size(cache["limit"])
    lines = [
        f"{place}  {status['state']} for {console.duration(status['since_seconds'])}",
        f"  server   {console.printable(status['address'])}  {console.printable(status['root'])}"
        f"  ({status['transport']}, {remote['connections']} connections, rtt {remote['rtt_ms']:.1f} ms)",
        f"  cache    {used} of {limit}, {cache.get('hits', 0)} hits, {cache.get('misses', 0)} misses",
        f"  traffic  {console.size(remote['bytes_received'])} received in {remote['requests']} requests,"
        f" best {console.rate(remote['rate_bytes_per_s'])}",
    ]
    lines += [
        f"  fetching {console.printable(one['path'])}  {console.size(one['bytes'])}"
        for one in status["fetches"]
    ]
    return "\n".join(lines)
