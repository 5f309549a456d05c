"""`artisync cache`: info, verify, prune and clear."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfs.base.errors import ArtisyncError, ConfigError, NoCache, UsageError
from vfs.base.profiles import load_profile, profile_names
from vfs.base.progress import Progress
from vfs.base.quantities import parse_size
from vfs.base.settings import cache_place
from vfs.cli import console, progress
from vfs.cli.options import SIZE, Command, given_options, json_option

if TYPE_CHECKING:
    from vfs.cache.ledger import Ledger
    from vfs.commands.cache_usage import Holding

COLUMNS = ("experiment", ">files", ">size", ">pinned", "server")
ANSWER_SECONDS = 2.0


@click.group(name="cache")
def command() -> None:
    """Manage the cache: info, verify, prune, clear.

    They work on the cache of `--cache-dir` or of the profile, even while mounts use it.
    """


@command.command(cls=Command)
@given_options("profile", "cache_dir", "cache_size")
@json_option()
def info(given: dict[str, Any], as_json: bool) -> None:
    """Show cached and pinned bytes by experiment."""
    directory, limit = cache_place(given)
    found: list[Holding] = []
    used = 0
    try:
        with _looked_after(given) as ledger:
            from vfs.commands.cache_usage import holdings

            found, used = holdings(ledger), ledger.records.usage()
    except NoCache as error:
        console.tell(f"The cache is empty: {error}.")
    names = _profile_names()
    rows = [_row(holding, names) for holding in found]
    if as_json:
        console.print_json({"directory": str(directory), "bytes": used, "limit": limit, "experiments": rows})
    elif used:
        console.tell(f"{directory}: {console.size(used)} of {console.size(limit)} used.")
        console.table(COLUMNS, [_shown(row) for row in rows], first_to_go=(4,))


@command.command(cls=Command)
@given_options("profile", "cache_dir")
@json_option()
def verify(given: dict[str, Any], as_json: bool) -> int:
    """Verify every block in the cache.

    Damaged blocks are dropped, and fetched again when they are read. The exit code is 1 if there were any.
    """
    from vfs.cache import upkeep
    from vfs.commands.cache_usage import places

    bad: list[dict[str, Any]] = []
    counted = Progress()
    with progress.shown(counted), _looked_after(given) as ledger:
        known, blocks = places(ledger), 0
        counted.total = ledger.records.data_bytes()
        for verdict in upkeep.verify(ledger):
            place = known.get(verdict.lineage or b"")
            path = os.fsdecode(place) if place is not None else None
            if verdict.lineage is not None:
                blocks += 1
                counted.done += verdict.size
                counted.doing = path or ""
            if verdict.error is not None:
                bad.append({"path": path, "block": verdict.index, "error": verdict.error})
    if as_json:
        report = {"directory": str(ledger.directory), "blocks": blocks, "damaged": bad}
        console.print_json(report)
        return 1 if bad else 0
    for one in bad:
        what = one["path"] or ("a file" if one["block"] is not None else "a record")
        console.say(f"{what}: {one['error']}")
    found = [f"{console.count(blocks, 'block')} verified"]
    found += [f"{len(bad)} damaged and dropped"] * bool(bad)
    console.tell(f"{', '.join(found)}.")
    return 1 if bad else 0


@command.command(cls=Command)
@given_options("profile", "cache_dir", "cache_size")
@click.option("--to", metavar="SIZE", type=SIZE, help="Target size  [default: the cache's limit]")
@json_option()
def prune(given: dict[str, Any], to: str | None, as_json: bool) -> None:
    """Shrink the cache, least recently used first.

    Pinned files stay.
    """
    target = cache_place(given)[1] if to is None else parse_size(to)
    with _looked_after(given) as ledger:
        from vfs.commands.cache_usage import holdings

        before = ledger.records.usage()
        ledger.evict(before - target)
        used = ledger.records.usage()
        left = list(holdings(ledger))
        only_pins = bool(left) and all(holding.size == holding.pinned for holding in left)
    if as_json:
        report = {"directory": str(ledger.directory), "freed_bytes": before - used, "bytes": used}
        console.print_json(report)
        return
    console.tell(f"Freed {console.size(before - used)}; {console.size(used)} left.")
    if used > target and only_pins:
        console.tell("The rest is pinned (`artisync unpin`).")


@command.command(cls=Command)
@given_options("profile", "cache_dir")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option()
def clear(given: dict[str, Any], yes: bool, as_json: bool) -> int:
    """Delete everything in the cache, pins too.

    Live mounts stay, and fetch files again as they are read.
    """
    from vfs.cache import upkeep

    with _looked_after(given) as ledger:
        before = ledger.records.usage()
    if not yes:
        if console.prompter() is None:
            raise UsageError("cannot ask without a terminal; pass --yes")
        if not console.confirm(f"Delete {console.size(before)} in {ledger.directory}?"):
            console.tell("Nothing was deleted.")
            return 1
    live = _mounts_on(ledger.directory)
    with _looked_after(given) as ledger:
        upkeep.clear(ledger, in_use=bool(live))
        freed = before - ledger.records.usage()
    if as_json:
        report = {
            "directory": str(ledger.directory),
            "freed_bytes": freed,
            "live_mounts": list(map(str, live)),
        }
        console.print_json(report)
        return 0
    console.tell(f"Freed {console.size(freed)}.")
    for mountpoint in live:
        console.tell(f"The mount at {mountpoint} stays; it fetches files again as they are read.")
    return 0


def _row(holding: Holding, names: Mapping[str, str]) -> dict[str, Any]:
    """A holding in plain types; `names` are the profiles' by their ids."""
    server, profile = holding.identity, None
    if server is not None and server.startswith("profile:"):
        _, id, server = server.split(":", 2)
        profile = names.get(id)
    return {
        "experiment": None if holding.experiment is None else os.fsdecode(holding.experiment),
        "files": holding.files,
        "bytes": holding.size,
        "pinned_bytes": holding.pinned,
        "profile": profile,
        "server": server,
    }


def _shown(row: Mapping[str, Any]) -> tuple[str, ...]:
    experiment = row["experiment"]
    return (
        "(unknown)" if experiment is None else experiment or "(other files)",
        str(row["files"]),
        console.size(row["bytes"]),
        console.size(row["pinned_bytes"]) if row["pinned_bytes"] else "-",
        " ".join(filter(None, (row["profile"], row["server"]))) or "-",
    )


def _profile_names() -> dict[str, str]:
    """The names of the saved profiles by their ids."""
    found = {}
    for name in profile_names():
        with suppress(ConfigError):
            if (profile := load_profile(name)) is not None:
                found[profile.id] = name
    return found


def _looked_after(given: dict[str, Any]) -> AbstractContextManager[Ledger]:
    """The cache that the options select, for what is done to it alone. Raises CacheUnusable when there is none."""
    from vfs.cache.upkeep import looked_after

    return looked_after(cache_place(given)[0])


def _mounts_on(directory: Path) -> list[Path]:
    """The live mounts that use this cache; a mount that does not answer counts as one."""
    from vfs.control import client, register

    found = []
    for record in register.mounts():
        try:
            answer = client.call(record.socket, "status", timeout=ANSWER_SECONDS)
        except ArtisyncError:
            found.append(record.mountpoint)
            continue
        if os.path.realpath(answer["cache"]["directory"]) == os.path.realpath(directory):
            found.append(record.mountpoint)
    return found
