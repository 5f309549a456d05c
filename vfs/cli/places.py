"""What the PATHs of a command line mean: files in a live mount, on a server, or on this machine; and which process does the work."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfs.base.errors import ArtisyncError, MountSilent, NoServerYet, NotMounted, UsageError
from vfs.base.progress import Progress
from vfs.base.settings import Settings, resolve
from vfs.cli import console, dead
from vfs.cli.options import real_path
from vfs.control import client, register

if TYPE_CHECKING:
    from vfs.stack import Stack

ANSWER_SECONDS = 5.0
WORK_SECONDS = 120.0
"""A mount reports its progress every second, unless it waits for the server; and `ls` may list very many directories."""
Report = dict[str, Any]


@dataclass(slots=True)
class Where:
    """Paths relative to a server's root, patterns among them, and the live mount of that root, if there is one."""

    settings: Settings
    mount: register.MountRecord | None
    paths: list[str]

    def follow(
        self,
        verb: str,
        take: Callable[[Report], None],
        progress: Progress | None = None,
        *,
        again: Callable[[ArtisyncError], None] = lambda error: None,
        offline: bool = False,
        **arguments: Any,
    ) -> None:
        """Have the mount's process do one of `commands.verbs`: `take` is given each report, `progress` is kept up to date.

        Without a mount, a stack of our own does it; when the mount has ended or hangs, too, from the beginning: `again` is
        called first. Raises what either raises.
        """

        def took(report: Report) -> None:
            for name, value in report.pop("progress", {}).items():
                setattr(progress, name, value)
            if report:
                take(report)

        if self.mount is not None:
            try:
                for report in client.stream(
                    self.mount.socket, verb, timeout=WORK_SECONDS, silence=WORK_SECONDS, **arguments
                ):
                    took(report)
                return
            except (NotMounted, MountSilent) as error:
                again(error)
                self.mount = None
        import asyncio

        from vfs import stack
        from vfs.commands.verbs import VERBS

        async def work(opened: Stack) -> None:
            async for report in VERBS[verb](opened, **arguments):
                await asyncio.to_thread(took, report)  # the reader of a pipe may be slow

        stack.run(self.settings, work, console.prompter(), offline=offline)

    def files(self) -> list[Path] | None:
        """The paths in the mount, patterns expanded; None without a mount, or if one of them is not there."""
        if self.mount is None:
            return None
        found: list[Path] = []
        for path in self.paths:
            if ".." in path.split("/"):  # there, a link before it counts
                return None
            whole = self.mount.mountpoint / path.strip("/")
            names = [path] if os.path.lexists(whole) else glob.glob(path, root_dir=self.mount.mountpoint)
            if not names:
                return None
            found += (self.mount.mountpoint / name.strip("/") for name in sorted(names))
        return list(dict.fromkeys(found))


def where(given: Mapping[str, Any], paths: Sequence[str]) -> Where:
    """Find the one server that the paths are on; without paths, the one of the options, or of the only mount.

    Raises UsageError for paths of several, NotMounted for one of this machine that is in no live mount, MountSilent for one
    in a mount that would hold every access, ConfigError.
    """
    mounts = register.mounts() if paths else []
    _see_that_they_answer(paths, mounts)
    meant = [_meant(path, mounts) for path in paths]
    found = [mount for mount, _ in meant]
    settings = None
    if None in found or not found:  # a mount of that server does the work: no second login
        try:
            settings = resolve(given)
            own = register.mount_of(settings)
        except NoServerYet:  # it may have been mounted by `--ssh`
            if len(live := register.mounts()) != 1:
                raise
            (own,) = live
        found = [mount or own for mount in found] or [own]
    if len({mount.mountpoint if mount is not None else None for mount in found}) > 1:
        raise UsageError("the paths are on different mounts or servers; pass those of one at a time")
    mount = found[0]
    if settings is None and mount is not None:
        settings = _settings(given, mount)
    assert settings is not None
    return Where(settings, mount, [path for _, path in meant])


def _settings(given: Mapping[str, Any], mount: register.MountRecord) -> Settings:
    """What the mount works with: where it ends meanwhile, a stack of our own is to ask the same server."""
    status = client.call(mount.socket, "status", timeout=ANSWER_SECONDS)
    server = {"profile": mount.profile, "ssh": None if mount.profile else status["address"]}
    place = {"remote_root": status["root"], "cache_dir": status["cache"]["directory"]}
    return resolve({**given, "transport": status["transport"], **server, **place})


def is_local(path: str) -> bool:
    """Whether a path is a file or directory of this machine outside every artisync mount, or could only be one.

    Raises MountSilent for one in a mount that would hold every access.
    """
    mounts = register.mounts()
    _see_that_they_answer([path], mounts)
    place = real_path(path)
    if any(_inside(place, mount) for mount in mounts) or dead.around(place) is not None:
        return False
    return Path(path).is_absolute() or path.startswith(".") or os.path.lexists(path)


def _see_that_they_answer(paths: Iterable[str], mounts: list[register.MountRecord]) -> None:
    """Ask each mount that paths lead into, before a look at them, which would hang. Raises MountSilent."""
    asked = {mount.mountpoint: mount for mount in mounts}
    directories = {above for path in paths for above in Path(os.path.abspath(path)).parents}
    for directory in sorted(directories, key=lambda directory: len(directory.parts)):
        if not asked:
            return
        mount = asked.pop(real_path(directory), None)
        if mount is not None:
            client.call(mount.socket, "status", timeout=ANSWER_SECONDS)


def _inside(place: Path, mount: register.MountRecord) -> bool:
    return place == mount.mountpoint or mount.mountpoint in place.parents


def _meant(path: str, mounts: list[register.MountRecord]) -> tuple[register.MountRecord | None, str]:
    place = real_path(path)
    for mount in mounts:
        if _inside(place, mount):
            return mount, os.fspath(place.relative_to(mount.mountpoint))
    gone = dead.around(place)
    if gone is not None:
        raise gone
    if Path(path).is_absolute() or path.startswith("."):
        raise NotMounted(f"{path} is not in a live mount of this user")
    return None, path
