"""Mounts whose process was killed: the kernel still has them, and every access fails."""

from __future__ import annotations

import shlex
from pathlib import Path

from vfs.base.errors import NotMounted
from vfs.base.profiles import DEFAULT_PROFILE
from vfs.control import register
from vfs.frontends import mountpoint as mountpoints


def mounts() -> list[register.MountRecord]:
    """The dead mounts of this user."""
    live = {record.mountpoint for record in register.mounts()}
    return [record for record in register.dead(mountpoints.is_ours) if record.mountpoint not in live]


def error(mountpoint: Path, profile: str | None = None) -> NotMounted:
    """The error for a dead mount."""
    again = f"artisync mount {shlex.quote(str(mountpoint))}"
    if profile not in (None, DEFAULT_PROFILE):
        again += f" --profile {shlex.quote(profile)}"
    return NotMounted(f"the mount at {mountpoint} is dead: its process was killed; `{again}` mounts it again")


def around(place: Path) -> NotMounted | None:
    """The error if the place is in a dead artisync mount, else None."""
    for above in (place, *place.parents):
        if mountpoints.is_ours(above) and mountpoints.is_dead(above):  # else a bind mount, or another user's
            profiles = {record.mountpoint: record.profile for record in mounts()}
            return error(above, profiles.get(above))
    return None
