"""An export with the mount that the system's own client makes of it: made, watched, ended.

Everything runs on the event loop's thread; the commands that mount and unmount are processes, and this one serves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vfs.base import mount_table
from vfs.base.errors import MountError, NfsMissing
from vfs.base.loop_time import loop_time
from vfs.base.mount_table import MountInfo
from vfs.base.settings import Settings
from vfs.files.service import Files
from vfs.frontends import mountpoint as mountpoints
from vfs.frontends.nfs import command
from vfs.frontends.nfs.export import Export

log = logging.getLogger(__name__)

COMMAND_SECONDS = 30.0
"""How long the system's commands may take, and the secret in the mount command is valid."""
HAND_SECONDS = 120.0
"""The same where a person has to mount by hand."""
LOOK_SECONDS = 1.0 if sys.platform == "linux" else 5.0
"""How often it is seen whether the mount is still there; elsewhere than on Linux a program has to be asked."""


def settings_for(settings: Settings) -> Settings:
    """The settings of the stack below: what the client keeps by itself is taken off the TTL."""
    return replace(settings, ttl=settings.ttl - command.cached_seconds(settings.ttl))


class NfsMount:
    """A mount by NFS. `gone` is called once it is unmounted and no client uses it."""

    waiting: Sequence[int] = ()
    """No client says which programs wait."""

    def __init__(
        self, files: Files, settings: Settings, mountpoint: Path, *, gone: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._mountpoint = mountpoint
        self._gone = gone
        self._look = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._export = Export(
            files,
            everybody=settings.allow_other,
            privileged=sys.platform == "linux",
            unmounted=self._look.set,
        )

    @property
    def device(self) -> str:
        found = self._there()
        return "" if found is None else found.device

    @property
    def open_files(self) -> int:
        """Files that programs have read lately."""
        return self._export.files.open_files

    async def mount(self) -> None:
        """Serve, and mount. Raises MountError; then nothing that was given out opens anything any more."""
        await self._export.start()
        code, said = await _run(mountpoints.with_right(self._words(COMMAND_SECONDS)))
        if code != 0 and self._export.mounts == 0 and _lacks_right(said):
            await self._mounted_by_hand()
        elif code != 0 or not self._there():
            raise _failure(self._mountpoint, said)
        self._watching = asyncio.ensure_future(self._watch())

    def _words(self, seconds: float) -> list[str]:
        """The command that mounts; its path is valid for `seconds`."""
        return command.mount_command(
            self._export.port,
            self._export.path(seconds),
            self._mountpoint,
            timeout=self._settings.timeout,
            ttl=self._settings.ttl,
            system=sys.platform,
        )

    async def _mounted_by_hand(self) -> None:
        """Have the person run the command that this user may not, and wait for it."""
        words = shlex.join(["sudo", *self._words(HAND_SECONDS)])
        log.warning("only root can mount by NFS here; run within %.0f s, in another terminal:", HAND_SECONDS)
        log.warning("%s", words)
        end = loop_time() + HAND_SECONDS
        while not self._there():
            if loop_time() > end:
                raise MountError(f"{self._mountpoint} was not mounted within {HAND_SECONDS:.0f} seconds")
            await asyncio.sleep(0.2)

    def _there(self) -> MountInfo | None:
        """The mount, wherever it is now: a directory above it may have another name."""
        return next((mount for mount in mount_table.mounts() if mount.port == self._export.port), None)

    async def _watch(self) -> None:
        """Wait until the mount is gone, and no program has a file of it open any more."""
        while self._there() or self._export.clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), LOOK_SECONDS)
            self._look.clear()
        self._gone()

    async def aclose(self) -> None:
        """Unmount, and stop serving; programs that still use it get errors."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for force in (False, True):
            if (found := self._there()) is not None:
                words = mountpoints.unmount_command(found.path, force=force, system=sys.platform)
                code, said = await _run(mountpoints.with_right(words))
                if code != 0:
                    log.warning("%s cannot be unmounted: %s", found.path, said)
        self._export.close()


async def _run(words: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command, and its output. A command that cannot be run, or does not end, has failed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        return 127, f"{words[0]}: {error.strerror}"
    try:
        said, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return 124, f"{words[0]} did not end within {COMMAND_SECONDS:.0f} seconds"
    return process.returncode or 0, said.decode(errors="replace").strip()


def _lacks_right(said: str) -> bool:
    """Whether a command failed for the lack of root's right."""
    return os.getuid() != 0 and (
        said.startswith("sudo:") or "only root" in said.lower() or "not permitted" in said.lower()
    )


def _failure(mountpoint: Path, said: str) -> MountError:
    kind = NfsMissing if "unknown filesystem type" in said or "No such device" in said else MountError
    return kind(f"{mountpoint} cannot be mounted by NFS: {said}")


def check_client() -> str:
    """What this machine's NFS client is, and how it mounts. Raises NfsMissing."""
    if sys.platform == "darwin":
        if not Path(mountpoints.MOUNT_NFS).exists():
            raise NfsMissing(f"there is no {mountpoints.MOUNT_NFS}")
        return "the system's NFS client can be used, by any user"
    if sys.platform != "linux":
        raise NfsMissing(f"mounting by NFS is not supported on {sys.platform}")
    if not _kernel_has_nfs():
        raise NfsMissing("the kernel has no NFS client")
    if os.getuid() == 0:
        return "the kernel's NFS client can be used"
    how = "through sudo" if shutil.which("sudo") else "by a command that root runs"
    return f"the kernel's NFS client can be used, {how}"


def _kernel_has_nfs() -> bool:
    with contextlib.suppress(OSError):
        if "\tnfs\n" in Path("/proc/filesystems").read_text():
            return True
    modules = Path("/lib/modules") / os.uname().release
    with contextlib.suppress(OSError):
        for name in ("modules.dep", "modules.builtin"):
            if "/nfs.ko" in (modules / name).read_text(errors="replace"):
                return True
    return False
