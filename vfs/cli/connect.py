"""`artisync connect`: check a server, save it as a profile, move the live mounts of that profile to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from vfs import config, control
from vfs.cli import console
from vfs.cli.options import given_options
from vfs.errors import ArtisyncError, AuthRejected, ConnectError


@click.command(name="connect", context_settings={"ignore_unknown_options": True})
@given_options(
    "profile",
    "remote_root",
    "cache_dir",
    "cache_size",
    "timeout",
    "ttl",
    "transport",
    "accept_new_host_key",
    "replace_host_key",
)
@click.argument("line", nargs=-1, required=True, type=click.UNPROCESSED)
def command(line: tuple[str, ...], given: dict[str, Any]) -> int:
    """Check the server of an ssh LINE, as the control panel shows it, and remember it.

    Quote the line, or put it after `--`. Live mounts of the profile move to the new address.
    """
    name = str(given.pop("profile", None) or config.DEFAULT_PROFILE)
    saved = config.load_profile(name)
    words: str | list[str] = line[0] if len(line) == 1 else list(line)
    kept = {**(saved.options if saved else {}), "remote_root": saved.remote_root if saved else None}
    chosen = {**kept, **{key: value for key, value in given.items() if value is not None}}
    settings = config.resolve({**chosen, "ssh": words})
    settings = _checked(settings, explicit=given.get("transport") is not None)
    unsaved = ("accept_new_host_key", "replace_host_key", "verbose", "remote_root")
    options = {key: value for key, value in chosen.items() if key not in unsaved and value is not None}
    profile = config.Profile(
        name, settings.address, settings.remote_root, {**options, "transport": settings.transport}
    )
    if saved is not None:
        profile = replace(profile, id=saved.id)
    config.save_profile(profile)
    click.echo(f"profile {name} saved; next: artisync mount ./artifacts")
    return _move(name, settings)


def _checked(settings: config.Settings, *, explicit: bool) -> config.Settings:
    """Connect once; over the system's ssh where paramiko cannot log in and ssh can."""
    from vfs.stack import probe

    try:
        found = probe(settings, console.prompter())
    except AuthRejected as error:
        if explicit or settings.transport == "openssh":
            raise
        settings = replace(settings, transport="openssh")
        try:
            found = probe(settings, console.prompter())
        except ConnectError:
            raise error from None
        console.tell("paramiko could not log in, the system's ssh can: it is used from now on (openssh)")
    root = found.root.decode(errors="backslashreplace")
    click.echo(
        f"connected to {settings.address.host}; {root} has {found.entries} entries; {found.rtt * 1000:.0f} ms away"
    )
    return settings


def _move(name: str, settings: config.Settings) -> int:
    failed = 0
    for record in control.mounts():
        if record.profile != name:
            continue
        try:
            control.call(
                record.socket,
                "move",
                timeout=60.0,
                line=settings.address.line(),
                transport=settings.transport,
            )
            click.echo(f"{record.mountpoint} has moved there")
        except ArtisyncError as error:
            console.tell(f"artisync: {record.mountpoint} could not move: {error}")
            failed = 1
    return failed
