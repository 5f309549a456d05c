"""`artisync mount`: the parent waits until the mount answers; the child is the mount, and goes on in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from vfs import config
from vfs.cli import console, logs
from vfs.cli.options import MountPoint, command_line, settings_options

READY_FD = "ARTISYNC_READY_FD"
"""Names the pipe on which the child says that it is ready."""


@click.command(name="mount")
@settings_options(
    "cache_size",
    "timeout",
    "ttl",
    "transport",
    "accept_new_host_key",
    "foreground",
    "allow_other",
    "log_file",
)
@click.argument("mountpoint", type=MountPoint())
@click.pass_context
def command(ctx: click.Context, mountpoint: Path, settings: config.Settings) -> int:
    """Show the server's artifacts at MOUNTPOINT, which is made if it is not there.

    Returns once the mount answers, and goes on in the background until `artisync unmount`.
    """
    if not settings.foreground:
        return _in_background(command_line(ctx), mountpoint)
    from vfs import mount

    pipe = os.environ.pop(READY_FD, None)

    def ready(message: str) -> None:
        if message:
            console.tell(f"artisync: {message}")
        if pipe is not None:
            _detach(int(pipe), settings, mountpoint)
        else:
            console.tell(f"{mountpoint} is mounted; Ctrl-C unmounts it")

    return mount.run(settings, mountpoint, ready=ready, prompter=console.prompter())


def _in_background(words: list[str], mountpoint: Path) -> int:
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "vfs", "mount", "--foreground", *words, "--", str(mountpoint)]
    with console.terminal_kept():
        child = subprocess.Popen(argv, pass_fds=[writing], env={**os.environ, READY_FD: str(writing)})
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as pipe:
                if pipe.read() == b"ready":
                    return 0
            return child.wait() or 1
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            return 130


def _detach(pipe: int, settings: config.Settings, mountpoint: Path) -> None:
    """Let go of the terminal, and tell the parent."""
    log_file = (
        settings.log_file or config.state_dir() / f"mount{str(mountpoint).replace('/', '-')[-200:]}.log"
    )
    try:
        log = logs.open_log(log_file)
    except OSError as error:
        console.tell(f"artisync: no log: {log_file}: {error.strerror}")
        log = os.open(os.devnull, os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    if os.getpid() != os.getsid(0):
        os.setsid()
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logs.daemon(log_file)
    os.write(pipe, b"ready")
    os.close(pipe)
