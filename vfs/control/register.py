"""The register of live mounts: beside each control socket a record says whose it is.

Blocking; may be used from any thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vfs.base import mount_table, paths
from vfs.base.errors import ArtisyncError, CannotControl
from vfs.base.settings import Settings
from vfs.control import client, sockets

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A live mount, where it is now."""

    mountpoint: Path
    pid: int
    profile: str | None
    socket: Path


def mounts() -> list[MountRecord]:
    """All live mounts of this user, by mount point."""
    found: dict[Path, MountRecord] = {}
    for _, record in _records():
        if record is not None and _listening(record):
            found.setdefault(record.mountpoint, record)
    return [found[mountpoint] for mountpoint in sorted(found)]


def dead(still: Callable[[Path], bool]) -> list[MountRecord]:
    """Mounts without a process whose mount point is still mounted, as `still` tells. Removes the records of other mounts
    without a process."""
    found: list[MountRecord] = []
    for path, record in _records():
        if record is not None and _listening(record):
            continue
        if record is not None and still(record.mountpoint):
            found.append(record)
        else:
            _sweep(path)
    return found


def find(mountpoint: Path) -> MountRecord | None:
    """The live mount of this place (absolute, without symbolic links), or None."""
    return next((record for record in mounts() if record.mountpoint == mountpoint), None)


def mount_of(settings: Settings) -> MountRecord | None:
    """A live mount of the same profile (or server, without one), root and cache, or None; one that does not answer is
    none."""
    for record in mounts():
        if record.profile != settings.profile_name:
            continue
        try:
            status = client.call(record.socket, "status", timeout=5.0)
        except ArtisyncError:
            continue
        directory = status.get("cache", {}).get("directory")
        if record.profile is None and status.get("address") != settings.address.line():
            continue
        if (status.get("root"), directory) == (settings.remote_root, str(settings.cache_dir)):
            return record
    return None


def _records() -> Iterator[tuple[Path, MountRecord | None]]:
    """The file of each record, and the record if it can be read."""
    for directory in sockets.directories():
        if not paths.is_own(directory):  # others' records would name our processes
            continue
        try:
            names = sorted(
                p for p in directory.iterdir() if p.suffix == ".json" and not p.name.startswith(".")
            )
        except OSError:
            continue
        for path in names:
            yield path, read(path)


def read(path: Path) -> MountRecord | None:
    """The record in a file, or None if there is none that can be read."""
    try:
        data = json.loads(path.read_bytes())
        profile = data["profile"]
        return MountRecord(
            mountpoint=mount_table.present(Path(data["mountpoint"]), data.get("device", "")),
            pid=int(data["pid"]),
            profile=None if profile is None else str(profile),
            socket=path.with_suffix(".sock"),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _listening(record: MountRecord) -> bool:
    try:
        client.connect(record.socket, timeout=1.0).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # it is there and too busy to take the call
    return True


def _sweep(path: Path) -> None:
    """Remove a stale record and its socket, unless a new mount has taken the place meanwhile."""
    with contextlib.suppress(OSError, CannotControl), sockets.locked(path.parent):
        record = read(path)
        if record is not None and _listening(record):
            return
        log.info("control: removing the stale record %s", path)
        path.unlink(missing_ok=True)
        path.with_suffix(".sock").unlink(missing_ok=True)
