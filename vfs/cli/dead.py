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
    return [record for record in register.dead(_is_dead) if record.mountpoint not in live]


def error(mountpoint: Path, profile: str | None = None) -> NotMounted:
    """The error for a dead mount."""
    again = f"artisync mount {shlex.quote(str(mountpoint))}"
    if profile not in (None, DEFAULT_PROFILE):
        again += f" --profile {shlex.quote(profile)}"
    return NotMounted(f"the mount at {mountpoint} is dead: its process was killed; `{again}` mounts it again")


def around(place: Path) -> NotMounted | None:
    """The error if the place is in a dead artisync mount, else None."""
    for above in (place, *place.parents):
        if _is_dead(above):
            profiles = {record.mountpoint: record.profile for record in mounts()}
            return error(above, profiles.get(above))
    return None


def _is_dead(place: Path) -> bool:
    """Whether it is a dead mount of artisync; not if it is another user's, which cannot be asked."""
    return mountpoints.is_ours(place) and mountpoints.is_dead(place)
