"""Checks of this machine: can it mount, is there a profile, is there room, is the cache sound, what do the mounts say.

Blocking. What may hang (a disk of another machine) is looked at on a thread of its own, for a bounded time.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vfs.base import mount_table, paths
from vfs.base.errors import ArtisyncError, CacheUnusable, ConfigError, MountError, NotMounted
from vfs.base.option_values import DEFAULT_VIA
from vfs.base.settings import Settings, resolve
from vfs.base.timeouts import within
from vfs.base.units import size
from vfs.cache.database import DATABASE, DatabaseBusy
from vfs.cache.store import check_place
from vfs.cache.upkeep import look
from vfs.commands.doctor.finding import Finding, Result
from vfs.control import client, register
from vfs.frontends import mountpoint as mountpoints
from vfs.frontends.fuse.available import check_fuse
from vfs.frontends.nfs.mounted import check_client
from vfs.remote.ssh.prompts import Deadline

STEP_SECONDS = 10.0
"""The longest that one check may take, unless `--timeout` was given."""
LEAST = 0.5
"""Seconds that each mount gets for its answer, even when others have used the time up."""
LITTLE = 256 << 20
"""Bytes of free disk below which the cache is of little use."""


def fuse() -> Finding:
    """Whether this user can mount by FUSE."""

    def look() -> str:
        check_fuse()
        from vfs.frontends.fuse.library import VERSION  # loads libfuse

        return f"libfuse {VERSION[0]}.{VERSION[1]}"

    return _way("fuse", look)


def nfs() -> Finding:
    """Whether this machine can mount by NFS."""
    return _way("nfs", check_client)


def _way(check: str, look: Callable[[], str]) -> Finding:
    """The finding for one way to mount; no failure if it cannot be used where mounts are made the other way."""
    try:
        return Finding(check, Result.OK, look())
    except MountError as error:
        finding = Finding.of_error(check, error)
        return finding if check == DEFAULT_VIA else replace(finding, result=Result.SKIPPED, next="")


def profile(given: Mapping[str, object]) -> tuple[Finding, Settings | None]:
    """Which server is meant. Raises UsageError for options that cannot be understood."""
    try:
        settings = resolve(given)
    except ConfigError as error:
        return Finding.of_error("profile", error), None
    if given.get("timeout") is None:
        settings = replace(settings, timeout=min(settings.timeout, STEP_SECONDS))
    address = settings.address
    # not the whole line: a ProxyCommand may hold anything
    who = f"{address.user}@{address.host}" if address.user else address.host
    port = f" port {address.port}" if address.port else ""
    name = f"{settings.profile_name}: " if settings.profile_name else "none (--ssh): "
    text = f"{name}{who}{port}, {settings.remote_root}, {settings.transport}"
    return Finding("profile", Result.OK, text), settings


def room(directory: Path, limit: int, seconds: float) -> Finding:
    """Disk space where the cache is, or will be; `limit`: how large it may be, in bytes."""
    return _patiently("disk", directory, seconds, lambda: _room(directory, limit))


def _room(directory: Path, limit: int) -> Finding:
    free = shutil.disk_usage(paths.existing(directory)).free
    text = f"{size(free)} free for the cache in {directory}"
    if free < LITTLE:
        advice = "Files can still be read, without a cache. Free some space, or name another directory with `--cache-dir`."
        return Finding("disk", Result.WARNING if free else Result.FAILED, text, advice)
    grown = limit - _used(directory)
    if free < grown:
        text += f", which may grow by another {size(grown)}"
        advice = "Lower `--cache-size`, or name another directory with `--cache-dir`."
        return Finding("disk", Result.WARNING, text, advice)
    return Finding("disk", Result.OK, text)


def _used(directory: Path) -> int:
    try:
        return look(directory) or 0
    except (CacheUnusable, DatabaseBusy):  # told by the next check
        return 0


def cache(directory: Path, seconds: float) -> Finding:
    """Whether the cache can be read and written; blocks are not verified."""
    return _patiently("cache", directory, seconds, lambda: _cache(directory))


def _cache(directory: Path) -> Finding:
    check_place(directory)
    try:
        used = look(directory)
    except DatabaseBusy as error:
        return Finding("cache", Result.WARNING, f"{error}", "Run this again when the mounts are less busy.")
    except CacheUnusable as error:
        remove = f"rm {shlex.quote(str(directory / DATABASE))}*"
        return Finding(
            "cache", Result.FAILED, str(error), f"Delete its database; a new one is made: `{remove}`."
        )
    if used is None:
        return Finding("cache", Result.OK, f"{directory} is writable and empty")
    return Finding("cache", Result.OK, f"{size(used)} in {directory}")


def _patiently(check: str, directory: Path, seconds: float, look: Callable[[], Finding]) -> Finding:
    try:
        return within(seconds, look, f"look at the {check}")
    except TimeoutError:
        text = f"the disk of {directory} does not answer"
    except OSError as error:
        text = f"{directory} cannot be used: {error.strerror}"
    except CacheUnusable as error:
        return Finding.of_error(check, error)
    return Finding(check, Result.FAILED, text, CacheUnusable().hint)


def mounts(seconds: float) -> Finding:
    """What the live mounts say of themselves, and which are dead; all in `seconds`, or little more."""
    deadline = Deadline(seconds)
    records = register.mounts()
    seen = [_live(record, deadline) for record in records]
    live = {record.mountpoint for record in records}
    for found in mount_table.mounts():
        if not found.ours or found.path in live:
            continue
        if mountpoints.is_dead(found.path, max(LEAST, min(2.0, deadline.left))):
            advice = (
                f"Clean it up with `artisync unmount {shlex.quote(str(found.path))}`, or mount there again."
            )
            seen.append((Result.WARNING, f"{found.path} is dead", advice))
    told = [one for one in seen if one[1]] or [(Result.OK, "nothing is mounted", "")]
    worst = next((r for r in (Result.FAILED, Result.WARNING) if any(r is one[0] for one in told)), Result.OK)
    advice = next(advice for result, _, advice in told if result is worst)
    return Finding("mounts", worst, ", ".join(text for _, text, _ in told), advice)


def _live(record: register.MountRecord, deadline: Deadline) -> tuple[Result, str, str]:
    """How a mount that is in the register is, and what to do; no text if it was unmounted meanwhile."""
    try:
        status = client.call(record.socket, "status", timeout=max(LEAST, deadline.left))
    except NotMounted:
        return Result.OK, "", ""
    except ArtisyncError as error:
        return Result.FAILED, f"{record.mountpoint}: {error}", error.hint
    state = str(status.get("state", "?"))
    if state == "online":
        return Result.OK, f"{record.mountpoint} is online", ""
    advice = "It reconnects when the server answers; `artisync connect` moves it to a new container."
    return Result.WARNING, f"{record.mountpoint} is {state}", advice
