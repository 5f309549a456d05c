"""`artisync unmount`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from vfs import control
from vfs.cli import logs
from vfs.cli.options import MountPoint
from vfs.errors import MountPointUnusable

PATIENCE = 10.0
"""Seconds to wait for the mount's process to end; what it still writes to the cache takes a moment."""


@click.command(name="unmount")
@click.option("--force", is_flag=True, help="Also when programs still use it.")
@logs.verbose_option
@click.argument("mountpoint", type=MountPoint())
def command(mountpoint: Path, force: bool) -> int:
    """Unmount MOUNTPOINT, also one whose process has died."""
    from vfs.fuse import mountpoint as mountpoints

    if not mountpoints.is_mounted(mountpoint):
        raise MountPointUnusable(f"{mountpoint} is not mounted")
    record = control.find(mountpoint)
    mountpoints.unmount(mountpoint, force=force or mountpoints.is_dead(mountpoint))
    end = time.monotonic() + PATIENCE
    while record is not None and _runs(record.pid) and time.monotonic() < end:
        time.sleep(0.02)
    return 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
