"""What makes a version of a file, how two relate, and when one is settled. Pure.

SFTP v3 tells whole seconds of mtime and no inode numbers, so two versions can look alike. A version is trusted only
once it is *settled*: any write after that moment must change the mtime, whatever the clocks say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

SETTLE_SECONDS = 2.0
"""mtime has a granularity of one second; two leave room for one more tick between the server's clock and its disk."""


@dataclass(frozen=True, slots=True, order=False)
class Version:
    """Size in bytes and mtime in whole seconds of the server's clock."""

    size: int
    mtime: int


class Change(enum.Enum):
    """How a newer look at a file relates to an older one."""

    SAME = "same"
    GROWN = "grown?"
    """Longer and not older: growth, if the bytes that are known of the old one are found in the new one."""
    REPLACED = "replaced"


def classify(old: Version, new: Version) -> Change:
    """Compare two looks at one path by their attributes alone."""
    if old == new:
        return Change.SAME
    if new.size > old.size and new.mtime >= old.mtime:
        return Change.GROWN
    return Change.REPLACED


def settled(version: Version, unchanged_for: float, server_time: float | None) -> bool:
    """Whether any later write must show in the attributes.

    `unchanged_for`: seconds of our monotonic clock over which the same attributes were seen. `server_time`: the
    server's present time as far as it is known, else None.
    """
    if unchanged_for >= SETTLE_SECONDS:
        return True
    return server_time is not None and version.mtime + SETTLE_SECONDS < server_time
