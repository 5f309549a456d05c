"""A mount's life: check, connect, mount, say "ready", serve, unmount; by FUSE or by NFS.

Everything runs on the event loop of the calling (main) thread: the loop watches libfuse's descriptor or the NFS clients,
signals and the control socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from vfs.base import mount_table, paths
from vfs.base.collector import short_rounds
from vfs.base.errors import MountPointUnusable
from vfs.base.settings import Settings
from vfs.commands.reports import Report
from vfs.commands.verbs import VERBS
from vfs.control import sockets
from vfs.control.server import Verb, announce
from vfs.frontends import mountpoint as mountpoints
from vfs.frontends.fuse.available import check_fuse
from vfs.frontends.nfs.mounted import NfsMount, check_client, settings_for
from vfs.remote.ssh.transport import Prompter
from vfs.stack import Stack, open_stack, with_address

if TYPE_CHECKING:
    from vfs.frontends.fuse.mounted import FuseMount  # loads libfuse, which may not be there

log = logging.getLogger(__name__)

T = TypeVar("T")
Mounted: TypeAlias = "FuseMount | NfsMount"


def check(settings: Settings) -> None:
    """See whether this machine and user can mount as the settings say. Raises FuseMissing, NfsMissing, MountError."""
    if settings.via == "nfs":
        check_client()
    else:
        check_fuse(allow_other=settings.allow_other)


def run(
    settings: Settings, mountpoint: Path, *, ready: Callable[[str], None], prompter: Prompter | None = None
) -> int:
    """Mount and serve until unmounted or told to stop by SIGTERM, SIGINT or SIGHUP; the exit code.

    `ready` is called once the mount answers, with a message for people (empty, or that it came up offline).
    Raises MountError and ConnectError before that. Blocks; must be called on the main thread.
    """
    check(settings)
    cache = Path(os.path.realpath(settings.cache_dir))
    if mountpoint in (cache, *cache.parents):
        raise MountPointUnusable(f"{mountpoint} would hide the cache in {cache}")
    made = mountpoints.absent(mountpoint)
    served = False
    try:
        mountpoints.check_usable(mountpoint)
        served = asyncio.run(_serve(settings, mountpoint, ready, prompter))
    finally:
        if not served and not mountpoints.is_mounted(mountpoint):
            paths.remove(made)
    return 0 if served else 130


async def _serve(
    settings: Settings, mountpoint: Path, ready: Callable[[str], None], prompter: Prompter | None
) -> bool:
    """Returns whether it was mounted before this process was told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    below = settings_for(settings) if settings.via == "nfs" else settings
    opening = open_stack(below, prompter, offline=True)
    stack = await _unless_stopped(opening.__aenter__(), stop)
    if stack is None:
        return False
    try:
        mounted = _mounted(stack, settings, mountpoint, stop.set)
        try:
            await _unless_stopped(_mount(mounted, mountpoint), stop)
            if stop.is_set():
                return False
            with short_rounds():
                verbs, profile = _verbs(stack, mountpoint, mounted), settings.profile_name
                server = await announce(mountpoint, verbs, profile=profile, device=mounted.device)
                try:
                    ready("" if stack.remote.link.online else f"offline: {stack.remote.last_error}")
                    await stop.wait()
                finally:
                    await server.aclose()
        finally:
            await mounted.aclose()
    finally:
        await opening.__aexit__(None, None, None)
    return True


def _mounted(stack: Stack, settings: Settings, mountpoint: Path, gone: Callable[[], None]) -> Mounted:
    if settings.via == "nfs":
        return NfsMount(stack.files, settings, mountpoint, gone=gone)
    from vfs.frontends.fuse.mounted import FuseMount

    return FuseMount(stack.files, settings, mountpoint, gone=gone)


async def _mount(mounted: Mounted, mountpoint: Path) -> None:
    directory = sockets.socket_path(mountpoint).parent
    sockets.prepare(directory)
    async with sockets.lock(directory):
        # another may have been mounted there while this one connected
        mountpoints.check_usable(mountpoint)
        await mounted.mount()


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """The result of `work`, or None when the process is told to stop first."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    finally:
        stopping.cancel()


def _verbs(stack: Stack, mountpoint: Path, mounted: Mounted) -> dict[str, Verb]:
    """What the control socket answers."""

    async def status() -> Report:
        log_file = stack.settings.log_file
        shown = {
            "mountpoint": str(mount_table.present(mountpoint, mounted.device)),
            "pid": os.getpid(),
            "open_files": mounted.open_files,
            "via": stack.settings.via,
            "log": None if log_file is None else str(log_file),
        }
        return {**shown, **stack.status()}

    async def move(line: str, transport: str) -> Report:
        await stack.move(with_address(stack.settings, line, transport))
        return {"address": stack.settings.address.line()}

    async def waiting() -> Report:
        return {"threads": list(mounted.waiting)}

    def answer(work: Callable[..., Any], arguments: Report) -> Any:
        """An offline mount tries to reconnect without waiting for its backoff: somebody uses it."""
        stack.remote.hurry()
        return work(**arguments)

    verbs: dict[str, Callable[..., Any]] = {name: partial(work, stack) for name, work in VERBS.items()}
    verbs |= {"status": status, "waiting": waiting, "move": move}
    return {name: partial(answer, work) for name, work in verbs.items()}
