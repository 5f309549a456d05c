"""`artisync prefetch`, `pin` and `unpin`: through the live mount where there is one, else on a connection of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.base import config
from vfs.base.errors import NotMounted, UsageError
from vfs.base.progress import Progress
from vfs.cli import console, dead, progress
from vfs.cli.options import BASE, given_options, json_option, real_path
from vfs.cli.remote_names import RemotePath
from vfs.control import client, register

if TYPE_CHECKING:
    from vfs.stack import Stack

FIRST_ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 60.0
"""A mount reports several times a second while it works."""


@dataclass(frozen=True, slots=True)
class Where:
    """What PATHs mean: in a live mount, or on a server; and the paths relative to its root."""

    place: register.MountRecord | config.Settings
    paths: list[str]


def _takes_paths(command: Callable[..., int]) -> Callable[..., int]:
    """Adds PATHs and the options that say of which server."""
    paths = click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=RemotePath(local="file"))
    return given_options(*BASE, "cache_size", "transport", "accept_new_host_key", "metered")(paths(command))


_yes = click.option("--yes", is_flag=True, help="Do not ask, though the link is metered.")


@click.command(name="prefetch")
@_takes_paths
@_yes
@json_option("Say what was done as JSON.")
def command(given: dict[str, Any], paths: tuple[str, ...], as_json: bool, yes: bool) -> int:
    """Fetch files and directories into the cache now, so that reading them later waits for nothing.

    PATH is in a mount (./artifacts/exp-1) or on the server (exp-1, exp-1/checkpoints/best_model.pt).
    """
    where = _where(given, paths)
    return _fetch(where, pin=False, as_json=as_json) if yes or _agreed(where) else 1


@click.command(name="pin")
@_takes_paths
@_yes
@json_option("Say what was done as JSON.")
def pin(given: dict[str, Any], paths: tuple[str, ...], as_json: bool, yes: bool) -> int:
    """Fetch files and directories, and keep them: they are never evicted, and readable offline.

    A file that is replaced on the server stays pinned; the new version is fetched when it is read, or pinned again.
    """
    where = _where(given, paths)
    return _fetch(where, pin=True, as_json=as_json) if yes or _agreed(where) else 1


@click.command(name="unpin")
@_takes_paths
def unpin(given: dict[str, Any], paths: tuple[str, ...]) -> int:
    """Let pinned files and directories be evicted from the cache again."""
    where = _where(given, paths)
    place = where.place
    if isinstance(place, register.MountRecord):
        answer = client.call(place.socket, "unpin", timeout=FIRST_ANSWER_SECONDS, paths=where.paths)
        count = int(answer["unpinned"])
    else:
        from vfs import stack
        from vfs.commands.prefetch import unpin as let_go

        async def work(opened: Stack) -> int:
            return await let_go(opened, where.paths)

        count = stack.run(place, work, console.prompter(), offline=True)
    console.tell(f"Unpinned {console.count(count, 'file')}.")
    return 0


def _where(given: dict[str, Any], paths: tuple[str, ...]) -> Where:
    """Raises UsageError for paths in two mounts, or in one and on the server."""
    mounts = register.mounts()
    meant = [_meant(path, mounts) for path in paths]
    if len({mount.mountpoint if mount is not None else None for mount, _ in meant}) > 1:
        raise UsageError("the paths are in different places; name those of one mount at a time")
    place: register.MountRecord | config.Settings | None = meant[0][0]
    if place is None:
        settings = config.resolve(given)
        # a mount of that server does the work, so that its readers have the bytes at once
        place = register.mount_of(settings) or settings
    return Where(place, [path for _, path in meant])


def _meant(path: str, mounts: list[register.MountRecord]) -> tuple[register.MountRecord | None, str]:
    place = real_path(path)
    for mount in mounts:
        if place == mount.mountpoint or mount.mountpoint in place.parents:
            return mount, os.fspath(place.relative_to(mount.mountpoint))
    gone = dead.around(place)
    if gone is not None:
        raise gone
    if Path(path).is_absolute() or path.startswith("."):
        raise NotMounted(f"{path} is not in a live mount")
    return None, path


def _fetch(where: Where, *, pin: bool, as_json: bool) -> int:
    counted = Progress()
    failed: list[list[str]] = []
    lacking, why = 0, ""

    def take(report: dict[str, Any]) -> None:
        nonlocal lacking, why
        failed.extend(report.pop("failed", []))
        lacking, why = report.pop("lacking", 0), report.pop("why", "")
        for name, value in report.items():
            setattr(counted, name, value)

    with progress.shown(counted):
        place = where.place
        if isinstance(place, register.MountRecord):
            for report in _asked(place, where.paths, pin=pin):
                take(report)
        else:
            from vfs import stack
            from vfs.commands.prefetch import prefetch

            async def work(opened: Stack) -> None:
                async for report in prefetch(opened, where.paths, pin=pin):
                    take(report)

            stack.run(place, work, console.prompter(), offline=pin)
    kept = counted.done - lacking
    if as_json:
        console.print_json(
            {"files": counted.files_done, "size": counted.done, "kept": kept, "failed": failed}
        )
    files = console.count(counted.files_done, "file")
    console.tell(f"{'Pinned' if pin else 'Fetched'} {files}, {console.size(counted.done)}.")
    if lacking:
        console.tell(f"artisync: the cache keeps only {console.size(kept)} of that: {why}.")
    console.tell_failures(failed)
    return 1 if failed or lacking else 0


def _agreed(where: Where) -> bool:
    """Whether the person at the terminal wants it fetched over a metered link; True over any other."""
    place = where.place
    if isinstance(place, register.MountRecord):
        found = client.call(place.socket, "estimate", timeout=FIRST_ANSWER_SECONDS, paths=where.paths)
    elif place.metered:
        from vfs import stack
        from vfs.commands.prefetch import estimate

        found = stack.run(place, lambda opened: estimate(opened, where.paths), console.prompter())
    else:
        found = {}
    if not found.get("bytes"):
        return True
    much = f"{console.count(found['files'], 'file')}, {console.size(found['bytes'])}"
    if sys.stdin is not None and console.confirm(f"The link is metered. Fetch {much}?"):
        return True
    console.tell(f"artisync: not fetched: {much} over a metered link; `--yes` fetches without asking")
    return False


def _asked(mount: register.MountRecord, paths: list[str], *, pin: bool) -> Iterator[dict[str, Any]]:
    return client.stream(
        mount.socket,
        "prefetch",
        timeout=FIRST_ANSWER_SECONDS,
        silence=SILENCE_SECONDS,
        paths=paths,
        pin=pin,
    )
