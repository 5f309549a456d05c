"""`artisync profile`: the saved servers."""

from __future__ import annotations

from typing import Any

import click

from vfs.base.errors import ConfigError, ProfileInUse
from vfs.base.profiles import (
    DEFAULT_PROFILE,
    Profile,
    load_profile,
    no_profile,
    profile_names,
    profile_path,
    remove_profile,
)
from vfs.cli import console, logs, names
from vfs.cli.options import json_option
from vfs.control import register

COLUMNS = ("profile", "server", "root", "mounted at")


@click.group(name="profile")
def command() -> None:
    """Manage saved servers: list, show, remove.

    `artisync connect` saves one.
    """


@command.command(name="list")
@json_option()
@logs.verbose_option
def list_(as_json: bool) -> int:
    """List profiles and where they are mounted.

    The exit code is 1 if one of them cannot be read.
    """
    rows = [_described(name) for name in profile_names()]
    if as_json:
        console.print_json({"profiles": rows})
    else:
        console.table(COLUMNS, [_shown(row) for row in rows], first_to_go=(2,))
        if not rows:
            console.tell('No profiles yet; `artisync connect "ssh …"` saves one.')
    return 1 if any("error" in row for row in rows) else 0


@command.command()
@click.argument("name", default=DEFAULT_PROFILE, shell_complete=names.profiles)
@json_option()
@logs.verbose_option
def show(name: str, as_json: bool) -> None:
    """Show the settings of a profile.

    NAME is `default` if left out.
    """
    profile = _load(name)
    row = {**_row(profile), "id": profile.id, "options": dict(profile.options)}
    if as_json:
        console.print_json(row)
        return
    fields = [(key, row[key]) for key in ("profile", "ssh", "remote_root")]
    fields += [(key, str(value)) for key, value in profile.options.items()]
    fields += [("mounted at", place) for place in row["mounts"]]
    console.table(("setting", "value"), [*fields, ("id", profile.id), ("file", row["file"])])


@command.command()
@click.argument("name", shell_complete=names.profiles)
@logs.verbose_option
def remove(name: str) -> None:
    """Remove a profile.

    A profile that is mounted cannot be removed. The cache is kept.
    """
    mounts = _mounts(name)
    if mounts:
        raise ProfileInUse(f"the profile {name} is mounted at {' and '.join(mounts)}")
    if not remove_profile(name):
        raise no_profile(name)
    console.tell(f"Removed profile {name}. To see what is cached of it: `artisync cache info`.")


def _load(name: str) -> Profile:
    profile = load_profile(name)
    if profile is None:
        raise no_profile(name)
    return profile


def _described(name: str) -> dict[str, Any]:
    """The profile as a row; if it cannot be read, its name and `error`."""
    try:
        return _row(_load(name))
    except ConfigError as error:
        return {"profile": name, "error": str(error), "file": str(profile_path(name))}


def _row(profile: Profile) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "ssh": profile.address.line(),
        "remote_root": profile.remote_root,
        "mounts": _mounts(profile.name),
        "file": str(profile_path(profile.name)),
    }


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return row["profile"], row["error"], "-", "-"
    return row["profile"], row["ssh"], row["remote_root"], " ".join(row["mounts"]) or "-"


def _mounts(name: str) -> list[str]:
    """Where the profile is mounted now."""
    return [str(record.mountpoint) for record in register.mounts() if record.profile == name]
