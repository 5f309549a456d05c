"""`artisync prefetch`, `pin` and `unpin`: through the live mount where there is one, else on a connection of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from vfs.base.progress import Progress
from vfs.cli import console, places, progress, remote_names
from vfs.cli.options import BASE, Command, given_options, json_option


def _takes_paths(command: Callable[..., int]) -> Callable[..., int]:
    """Adds PATH arguments and the options that select a server."""
    paths = click.argument(
        "paths", nargs=-1, required=True, metavar="PATH...", shell_complete=remote_names.paths(local="file")
    )
    return given_options(*BASE, "cache_size", "transport", "accept_new_host_key", "metered")(paths(command))


_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation on a metered link.")


@click.command(name="prefetch", cls=Command)
@_takes_paths
@_yes
@json_option()
def command(given: dict[str, Any], paths: tuple[str, ...], as_json: bool, yes: bool) -> int:
    """Fetch files into the cache ahead of use.

    PATH is a file or directory in a mount (./artifacts/exp-1) or on the server (exp-1, 'exp-gpt*',
    exp-1/checkpoints/best_model.pt). What does not fit into the cache is named and not fetched.
    """
    where = places.where(given, paths)
    return _fetch(where, pin=False, as_json=as_json) if yes or _agreed(where) else 1


@click.command(name="pin", cls=Command)
@_takes_paths
@_yes
@json_option()
def pin(given: dict[str, Any], paths: tuple[str, ...], as_json: bool, yes: bool) -> int:
    """Fetch files and keep them for offline use.

    Pinned files are never evicted from the cache. PATH is a file or directory in a mount (./artifacts/exp-1) or on
    the server (exp-1, 'exp-gpt*', exp-1/checkpoints/best_model.pt). What does not fit into the cache is named and not
    fetched.

    A file that is replaced on the server stays pinned; the new version is fetched when it is read, or pinned again.
    """
    where = places.where(given, paths)
    return _fetch(where, pin=True, as_json=as_json) if yes or _agreed(where) else 1


@click.command(name="unpin", cls=Command)
@_takes_paths
def unpin(given: dict[str, Any], paths: tuple[str, ...]) -> int:
    """Allow pinned files to be evicted again.

    PATH as for `artisync pin`.
    """
    where = places.where(given, paths)
    found: dict[str, Any] = {}
    where.follow("unpin", found.update, offline=True, paths=where.paths)
    console.tell(f"Unpinned {console.count(found['unpinned'], 'file')}.")
    return 0


def _fetch(where: places.Where, *, pin: bool, as_json: bool) -> int:
    counted = Progress()
    failed: list[list[str]] = []
    lacking, why = 0, ""

    def take(report: dict[str, Any]) -> None:
        nonlocal lacking, why
        failed.extend(report["failed"])
        lacking, why = report["lacking"], report["why"]

    with progress.shown(counted):
        where.follow("prefetch", take, counted, offline=pin, paths=where.paths, pin=pin)
    kept = counted.done - lacking
    if as_json:
        console.print_json(
            {"files": counted.files_done, "size": counted.done, "kept": kept, "failed": failed}
        )
    files = console.count(counted.files_done, "file")
    console.tell(f"{'Pinned' if pin else 'Fetched'} {files}, {console.size(counted.done)}.")
    if lacking:
        console.tell(f"artisync: the cache keeps only {console.size(kept)} of that: {why}.")
    console.tell_files([f"artisync: {name}: {reason}" for name, reason in failed])
    return 1 if failed or lacking else 0


def _agreed(where: places.Where) -> bool:
    """Whether the user agrees to fetch it over a metered link; True over any other link."""
    if where.mount is None and not where.settings.metered:
        return True
    found: dict[str, Any] = {}
    where.follow("estimate", found.update, paths=where.paths)
    if not found.get("bytes"):
        return True
    much = f"{console.count(found['files'], 'file')}, {console.size(found['bytes'])}"
    if sys.stdin is not None and console.confirm(f"The link is metered. Fetch {much}?"):
        return True
    console.tell(f"artisync: not fetched: {much} over a metered link; `--yes` fetches without asking")
    return False
