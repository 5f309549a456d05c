"""A mount's life: check, connect, mount, say "ready", serve, unmount.

Everything runs on the event loop of the calling (main) thread: the loop watches libfuse's descriptor, signals and the
control socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from vfs.base import loop_watch, paths
from vfs.base.collector import short_rounds
from vfs.base.config import Settings
from vfs.commands.prefetch import prefetch, unpin
from vfs.control.server import announce
from vfs.frontends.fuse import mountpoint as mountpoints
from vfs.frontends.fuse.operations import Operations
from vfs.frontends.fuse.session import Session
from vfs.remote.ssh.transport import Prompter
from vfs.stack import Stack, open_stack, with_address

log = logging.getLogger(__name__)


def run(
    settings: Settings, mountpoint: Path, *, ready: Callable[[str], None], prompter: Prompter | None = None
) -> int:
    """Mount and serve until unmounted or told to stop by SIGTERM, SIGINT or SIGHUP; the exit code.

    `ready` is called once the mount answers, with a message for people (empty, or that it came up offline).
    Raises MountError and ConnectError before that. Blocks; must be called on the main thread.
    """
    mountpoints.check_fuse(allow_other=settings.allow_other)
    made = mountpoints.absent(mountpoint)
    served = False
    try:
        mountpoints.check_usable(mountpoint)
        with loop_watch.watch() as held:
            served = asyncio.run(_serve(settings, mountpoint, ready, prompter, held))
    finally:
        if not served and not mountpoints.is_mounted(mountpoint):
            paths.remove(made)
    return 0 if served else 130


async def _serve(
    settings: Settings,
    mountpoint: Path,
    ready: Callable[[str], None],
    prompter: Prompter | None,
    held: loop_watch.Held,
) -> bool:
    """Whether there was a mount before this process was told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    opening = open_stack(settings, prompter, offline=True)
    stack = await _unless_stopped(opening.__aenter__(), stop)
    if stack is None:
        return False
    try:
        operations = Operations(stack.files)
        session = Session(operations, mountpoint, mount_options(settings))
        session.mount()
        try:
            loop.add_reader(session.fileno(), _process, session, stop)
            with short_rounds():
                verbs = _verbs(stack, mountpoint, operations, stop, held)
                server = await announce(mountpoint, verbs, profile=settings.profile_name)
                try:
                    ready("" if stack.remote.link.online else f"offline: {stack.pool.last_error}")
                    await stop.wait()
                finally:
                    await server.aclose()
        finally:
            loop.remove_reader(session.fileno())
            await operations.aclose()
            session.unmount()
            session.destroy()
    finally:
        await opening.__aexit__(None, None, None)
    return True


def mount_options(settings: Settings) -> list[str]:
    """What the mount is mounted with."""
    name = mountpoints.escape(f"{settings.address.host}:{settings.remote_root}")
    options = [
        "ro",
        "nosuid",
        "nodev",
        "noatime",
        "default_permissions",
        f"fsname={name}",
        "subtype=artisync",
    ]
    if settings.allow_other:
        options.append("allow_other")
    return options


def _process(session: Session, stop: asyncio.Event) -> None:
    if not session.process():
        asyncio.get_running_loop().remove_reader(session.fileno())
        stop.set()


async def _unless_stopped(work: Any, stop: asyncio.Event) -> Stack | None:
    """The result of `work`, or None when the process is told to stop first."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            stack: Stack = task.result()
            return stack
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    finally:
        stopping.cancel()


def _verbs(
    stack: Stack, mountpoint: Path, operations: Operations, stop: asyncio.Event, held: loop_watch.Held
) -> dict[str, Any]:
    """What the control socket answers."""

    async def status(_: dict[str, Any]) -> dict[str, Any]:
        shown = {"mountpoint": str(mountpoint), "pid": os.getpid(), "open_files": operations.open_files}
        return {**shown, **stack.status(), "loop": held.status()}

    async def move(arguments: dict[str, Any]) -> dict[str, Any]:
        await stack.move(
            with_address(stack.settings, str(arguments["line"]), str(arguments.get("transport")))
        )
        return {"address": stack.settings.address.line()}

    async def end(_: dict[str, Any]) -> dict[str, Any]:
        stop.set()
        return {}

    def fetch(arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        return prefetch(stack, arguments["paths"], pin=bool(arguments.get("pin")))

    async def let_go(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"unpinned": await unpin(stack, arguments["paths"])}

    async def waiting(_: dict[str, Any]) -> dict[str, Any]:
        return {"threads": operations.waiting}

    return {
        "status": status,
        "waiting": waiting,
        "move": move,
        "stop": end,
        "prefetch": fetch,
        "unpin": let_go,
    }
