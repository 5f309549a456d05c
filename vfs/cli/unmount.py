"""`artisync unmount`: also for a dead mount, and with `--force` for a busy or a hanging one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from vfs.base.errors import ArtisyncError, MountBusy, NotMounted, UsageError
from vfs.cli import console, dead, logs
from vfs.cli.background import Process
from vfs.cli.options import Command, MountPoint
from vfs.control import client, register
from vfs.frontends import mountpoint as mountpoints

PATIENCE = 20.0
"""Seconds for the mount's process to end; what it still writes to the cache takes a moment."""

FORCED_PATIENCE = 5.0
"""Seconds that a process has to end after SIGTERM, before it is killed."""


@click.command(name="unmount", cls=Command)
@click.option("--force", is_flag=True, help="Unmount even if it is in use or hangs.")
@logs.verbose_option
@click.argument("mountpoint", type=MountPoint(), required=False)
def command(mountpoint: Path | None, force: bool) -> int:
    """Unmount.

    MOUNTPOINT may be left out if there is one mount. Returns once the mount's process has ended and what it fetched is
    in the cache. Programs can go on reading files they have open; a shell whose working directory is in the mount keeps
    it mounted, unless --force is given. A mount whose process has died is cleaned up.
    """
    if mountpoint is None:
        mountpoint = _the_only_one()
    os.chdir("/")  # it may be in the mount, which would be in use by ourselves
    # nothing here looks at the mount itself: its process may hang
    record = register.find(mountpoint)
    found = mountpoints.mount_info(mountpoint)
    if found is None and record is None:
        raise NotMounted(f"nothing is mounted at {mountpoint}")
    if found is not None and not found.ours:
        raise NotMounted(f"the mount at {mountpoint} is another program's ({found.kind} of {found.source})")
    if found is not None and found.foreign and os.getuid() != 0:
        raise NotMounted(
            f"the mount at {mountpoint} is another user's; only who mounted it and root can unmount it"
        )
    if record is None:
        died = mountpoints.is_dead(mountpoint)
        # a dead one even if the working directory of a shell is in it
        mountpoints.unmount(mountpoint, force=force or died)
        console.tell(f"Unmounted {mountpoint}{', whose process had died' * died}.")
        return 0
    with Process(record.pid) as process:
        if found is not None and not _unmount(mountpoint, record, force=force):
            return 0
        if force:
            # a mount that is in use lives on, out of sight, as long as its process does
            process.send(signal.SIGTERM)
            if not process.ended(FORCED_PATIENCE):
                process.send(signal.SIGKILL)
        if not process.ended(PATIENCE):
            console.tell(
                f"artisync: unmounted, but its process {record.pid} is still running; "
                "`artisync unmount --force` ends it"
            )
            return 1
    console.tell(f"Unmounted {mountpoint}.")
    return 0


def _the_only_one() -> Path:
    """Raises NotMounted when there is none, UsageError when there are several."""
    places = sorted({record.mountpoint for record in (*register.mounts(), *dead.mounts())})
    if not places:
        raise NotMounted("nothing is mounted")
    if len(places) > 1:
        raise UsageError(f"there are several mounts: {', '.join(map(str, places))}; name one")
    return places[0]


def _unmount(mountpoint: Path, record: register.MountRecord, *, force: bool) -> bool:
    """Whether the mount is gone; else it is out of sight, and lives on for those that have files of it open.

    Raises MountBusy while somebody stands in it, or waits for an answer before there is an open file.
    """
    try:
        mountpoints.unmount(mountpoint, force=force)
    except MountBusy:
        users = mountpoints.busy(mountpoint)
        if mountpoints.standing_in(mountpoint):
            raise
        if not users:
            waiting = _waiting(record)
            raise MountBusy(
                f"{mountpoint} is in use"
                + (f" by {', '.join(waiting)}, waiting for the server" if waiting else "")
            ) from None
        mountpoints.unmount(mountpoint, force=True)
        console.tell(f"Unmounted. {', '.join(users)} can go on reading open files until they are closed.")
        return False
    return True


def _waiting(record: register.MountRecord) -> list[str]:
    """Programs that wait for an answer of the mount, as `name (pid)`."""
    try:
        return mountpoints.programs(client.call(record.socket, "waiting", timeout=2.0)["threads"])
    except (ArtisyncError, LookupError, TypeError):
        return []  # it hangs, or is of an older version
