"""`artisync connect`: check a server, save it as a profile, move the live mounts of that profile to it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from vfs.base.errors import ArtisyncError, ConfigError
from vfs.base.profiles import DEFAULT_PROFILE, Profile, load_profile, save_profile
from vfs.base.settings import Settings, resolve
from vfs.cli import console
from vfs.cli.options import Command, given_options

SAVED = ("cache_dir", "cache_size", "timeout", "ttl", "transport", "via", "metered")
"""Options that the profile keeps when they are given on the command line."""
_SSH_OPTION = re.compile("-[^-hv]")
_HIDDEN = "\0"


class LineCommand(Command):
    """Leaves the short options of an unquoted ssh line alone, which click would take for ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_HIDDEN + word if _SSH_OPTION.match(word) else word for word in args])


@click.command(name="connect", cls=LineCommand)
@given_options(
    "profile",
    "remote_root",
    "cache_dir",
    "cache_size",
    "timeout",
    "ttl",
    "transport",
    "via",
    "metered",
    "accept_new_host_key",
    "replace_host_key",
)
@click.argument("line", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, line: tuple[str, ...], given: dict[str, Any]) -> int:
    """Check a server and save it as a profile.

    LINE is the ssh line of the control panel, quoted or not, or a host and options of ssh:

    \b
    artisync connect "ssh -p 30022 user@host"
    artisync connect user@host -p 30022

    Live mounts of the profile move to the new address; open files and the cache are kept.
    """
    from vfs.cache.store import check_place

    name = str(given.pop("profile") or DEFAULT_PROFILE)
    saved, corrupt = _saved(name)
    kept: dict[str, Any] = {**saved.options, "remote_root": saved.remote_root} if saved else {}
    chosen = {**kept, **{key: value for key, value in given.items() if value is not None}}
    words = [word.removeprefix(_HIDDEN) for word in line]
    settings = resolve({**chosen, "ssh": words[0] if len(words) == 1 else words})
    check_place(settings.cache_dir)
    settings = _checked(settings, fall_back=given["transport"] is None)

    options = dict(saved.options) if saved else {}
    for key in SAVED:
        if ctx.get_parameter_source(key) is ParameterSource.COMMANDLINE:
            options[key] = str(settings.cache_dir) if key == "cache_dir" else given[key]
    options["transport"] = settings.transport
    profile = Profile(name, settings.address, settings.remote_root, options)
    save_profile(replace(profile, id=saved.id) if saved else profile)
    if corrupt is not None:
        console.tell(f"artisync: {corrupt}; it is replaced")
    console.tell(f"Saved as profile {name}.")
    return _move_mounts(name, settings)


def _saved(name: str) -> tuple[Profile | None, ConfigError | None]:
    """The profile as it is, or why it cannot be read."""
    try:
        return load_profile(name), None
    except ConfigError as e:
        return None, e


def _checked(settings: Settings, *, fall_back: bool) -> Settings:
    """Connect once. Returns the settings that worked."""
    from vfs.remote.ssh.hostkeys import read_entries
    from vfs.stack import probe

    known = {entry.key for entry in read_entries(settings.known_hosts)}
    found = probe(settings, console.prompter(), fall_back=fall_back)
    for entry in read_entries(settings.known_hosts):
        if entry.key not in known:
            console.tell(f"Saved the server's {entry.key.label} key {entry.key.fingerprint}.")
    root = found.root.decode(errors="surrogateescape")
    names = console.count(found.entries, "entry", "entries")
    console.tell(
        f"Connected to {settings.address.host} ({found.rtt * 1000:.0f} ms away); {root} holds {names}."
    )
    if found.transport != settings.transport:
        console.tell("The system's ssh logs in where paramiko cannot; this profile uses it from now on.")
    return replace(settings, transport=found.transport)


def _move_mounts(name: str, settings: Settings) -> int:
    """Move the live mounts of the profile. Returns exit code 1 if one of them did not follow."""
    from vfs.control import client, register

    code = 0
    mounts = [record for record in register.mounts() if record.profile == name]
    for record in mounts:
        try:
            client.call(
                record.socket,
                "move",
                timeout=settings.timeout + 10.0,
                line=settings.address.line(),
                transport=settings.transport,
            )
        except ArtisyncError as e:
            console.tell(f"artisync: could not move the mount at {record.mountpoint}:")
            console.tell_error(e)
            code = 1
        else:
            console.tell(f"Moved the mount at {record.mountpoint}.")
    if not mounts:
        profile = "" if name == DEFAULT_PROFILE else f"--profile {name} "
        console.tell(f"Next: artisync mount {profile}./artifacts")
    return code
