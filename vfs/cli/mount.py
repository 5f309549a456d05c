"""`artisync mount`: the parent waits until the mount answers; the child is the mount, and goes on in the background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vfs.base import paths
from vfs.base.errors import UsageError
from vfs.base.places import state_dir
from vfs.base.settings import Settings, resolve
from vfs.cli import background, console, logs, systemd
from vfs.cli.options import BASE, Command, MountPoint, command_line, given_options, lasting_command_line
from vfs.frontends import mountpoint as mountpoints


@click.command(name="mount", cls=Command)
@given_options(
    *BASE,
    "cache_size",
    "timeout",
    "ttl",
    "transport",
    "via",
    "accept_new_host_key",
    "metered",
    "foreground",
    "allow_other",
    "log_file",
)
@click.option("--print-systemd-unit", is_flag=True, help="Print a systemd user unit that mounts at login.")
@click.argument("mountpoint", type=MountPoint())
@click.pass_context
def command(ctx: click.Context, mountpoint: Path, given: dict[str, Any], print_systemd_unit: bool) -> int:
    """Mount the server's artifacts at a directory.

    MOUNTPOINT is created if it does not exist. The command returns once the mount answers; the mount stays in the
    background until `artisync unmount`.
    """
    settings = resolve(given)
    if print_systemd_unit:
        words = lasting_command_line(ctx, settings)
        click.echo(systemd.unit(settings, mountpoint, words), nl=False)
        return 0
    if settings.foreground:
        return _serve(settings, mountpoint)
    return _in_background(command_line(ctx), mountpoint)


def _in_background(words: list[str], mountpoint: Path) -> int:
    made = mountpoints.absent(mountpoint)
    try:
        code = background.start(["mount", "--foreground", *words, "--", str(mountpoint)])
    except KeyboardInterrupt:
        _clean(mountpoint, made)
        return 130
    if code == 0:
        console.tell(f"Mounted at {mountpoint}. To unmount: `artisync unmount`.")
    return code


def _clean(mountpoint: Path, made: Sequence[Path]) -> None:
    """After a child that was killed half-way: remove the dead mount, and the directories that it made."""
    from vfs.control import register

    if mountpoints.is_ours(mountpoint) and register.find(mountpoint) is None:
        mountpoints.unmount(mountpoint, force=True)
    if not mountpoints.is_mounted(mountpoint):
        paths.remove(made)


def _serve(settings: Settings, mountpoint: Path) -> int:
    """Be the mount; with a parent that waits, let go of the terminal once it answers."""
    pipe = background.take_pipe()
    log = _log_asked_for(settings)
    if pipe is None and log is not None:
        logs.to_file(log)

    def ready(message: str) -> None:
        if message:
            console.tell(f"artisync: {message}")
        if pipe is not None:
            background.detach(pipe, _own_log(mountpoint) if log is None else log)
            logs.daemon()
        else:
            console.tell(f"Mounted at {mountpoint}. Ctrl-C unmounts.")

    from vfs.commands import mount

    if pipe is not None and log is None:
        settings = replace(settings, log_file=default_log(mountpoint))
    return mount.run(settings, mountpoint, ready=ready, prompter=console.prompter())


def _log_asked_for(settings: Settings) -> int | None:
    """The descriptor of the `--log-file`. Raises UsageError when it cannot be opened."""
    if settings.log_file is None:
        return None
    try:
        return logs.open_log(settings.log_file)
    except OSError as e:
        raise UsageError(f"cannot write the log file {settings.log_file}: {e.strerror}") from e


def _own_log(mountpoint: Path) -> int:
    """The descriptor of the mount's usual log, or of /dev/null when that cannot be opened."""
    path = default_log(mountpoint)
    try:
        return logs.open_log(path)
    except OSError as e:
        console.tell(f"artisync: cannot write the log {path}: {e.strerror}")
        return os.open(os.devnull, os.O_WRONLY)


def default_log(mountpoint: Path) -> Path:
    """The log of a background mount, without `--log-file`."""
    from vfs.control import sockets

    return state_dir() / "logs" / f"{systemd.slug(mountpoint)}-{sockets.key(mountpoint)}.log"
