"""From settings to a working stack: dialer → remote → cache, fetcher, tree; its end, and its status.

The only place that wires things together. Used on the event loop's thread; `probe` makes a loop of its own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vfs.base.address import Address
from vfs.base.errors import (
    AccessDenied,
    HungUp,
    NoAnswer,
    NoSuchPath,
    NotDirectory,
    Refused,
    RootUnusable,
    ServerFailure,
    UnknownHost,
    Unreachable,
)
from vfs.base.loop_time import loop_time
from vfs.base.option_values import TransportName
from vfs.base.settings import Settings
from vfs.cache.blocks import BlockCache
from vfs.cache.disk import DiskCache
from vfs.fetch.fetcher import Fetcher
from vfs.files.following import without_symlinks
from vfs.files.service import Files
from vfs.files.tree import Tree
from vfs.remote.api import Remote
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.ssh.dialer import SshDialer
from vfs.remote.ssh.transport import Dialer, Prompter

log = logging.getLogger(__name__)

T = TypeVar("T")
D = TypeVar("D", bound=SshDialer)

AWAY = (Unreachable, Refused, NoAnswer, HungUp, UnknownHost, TimeoutError)
"""Failures to connect after which the server may come back by itself."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a first connection found."""

    root: bytes
    """The real path of the root on the server."""
    entries: int
    """Names in the root."""
    rtt: float
    """Round trip in seconds."""
    transport: TransportName
    """The one that got in."""


def make_dialer(settings: Settings, prompter: Prompter | None, *, fall_back: bool = True) -> Dialer:
    """The dialer that `settings.transport` names; for paramiko one that falls back to the system's ssh."""
    from vfs.remote.ssh.openssh import OpensshDialer
    from vfs.remote.ssh.prompts import Prompts

    prompts = Prompts(prompter)

    def made(kind: type[D]) -> D:
        return kind(
            settings.address,
            settings.known_hosts,
            prompts=prompts,
            accept_new=settings.accept_new_host_key,
            replace=settings.replace_host_key,
        )

    if settings.transport == "openssh":
        return made(OpensshDialer)
    from vfs.remote.ssh.fallback import FallbackDialer
    from vfs.remote.ssh.paramiko_dialer import ParamikoDialer

    first = made(ParamikoDialer)
    if not fall_back:
        return first
    first.leave_slow = shutil.which("ssh") is not None
    return FallbackDialer(first, made(OpensshDialer), asked=prompter is not None)


class Stack:
    """Everything between the server and a file's bytes, for one root."""

    def __init__(self, settings: Settings, remote: SftpRemote, cache: BlockCache, root: bytes) -> None:
        self.settings = settings
        self.remote = remote
        self.cache = cache
        self.fetcher = Fetcher(remote, cache)
        self.tree = Tree(remote, self.fetcher, cache, root, settings.identity, settings.ttl)
        self.tree.lineages.host = settings.address.host
        self.tree.versions.patience = settings.timeout / 2
        self.files = Files(self.tree, self.fetcher, settings.timeout)
        self.started = time.time()

    async def move(self, settings: Settings) -> None:
        """Go on over another address of the same files, with cache and open files kept.

        Raises ConnectError when it cannot be reached; the old address is then kept.
        """
        await self.remote.move(make_dialer(settings, None))
        self.settings = settings
        self.tree.lineages.host = settings.address.host

    def status(self) -> dict[str, Any]:
        """What `artisync status` shows, in plain types."""
        remote, settings = self.remote, self.settings
        return {
            "profile": settings.profile_name,
            "address": settings.address.line(),
            "root": settings.remote_root,
            "transport": remote.transport,
            "state": "online" if remote.link.online else "offline",
            "problem": None if remote.last_error is None else str(remote.last_error),
            "since_seconds": max(0.0, loop_time() - remote.link.since),
            "uptime_seconds": time.time() - self.started,
            "cache": {
                "directory": str(settings.cache_dir),
                "limit": settings.cache_size,
                **self.cache.stats(),
                "problem": self.cache.disk.problem,
            },
            "remote": remote.stats(),
            "metered": settings.metered,
            "bytes": {"fetched": self.fetcher.fetched, "used": self.fetcher.used},
            "fetches": [
                {
                    "path": fetch.path.decode(errors="replace"),
                    "size": fetch.size,
                    "done": fetch.done,
                    "bytes": fetch.waiting,
                    "rate": fetch.rate,
                }
                for fetch in self.fetcher.under_way()
            ],
        }

    async def aclose(self) -> None:
        """Close top to bottom; what waits to be written to the cache is written, within seconds."""
        await self.files.aclose()
        await self.tree.aclose()
        await self.fetcher.aclose()
        await self.remote.aclose()
        await self.cache.close()


@asynccontextmanager
async def open_stack(
    settings: Settings, prompter: Prompter | None = None, *, offline: bool = False
) -> AsyncIterator[Stack]:
    """Connect, and open the cache.

    With `offline`, a host that does not answer is no failure if an earlier session left a listing of the root.
    Raises ConnectError, RootUnusable, CacheUnusable.
    """
    disk = await asyncio.to_thread(DiskCache.open, settings.cache_dir, settings.cache_size)
    cache = BlockCache(disk)
    remote = SftpRemote(make_dialer(settings, prompter), settings.timeout, metered=settings.metered)
    stack: Stack | None = None
    try:
        key = f"r:{settings.identity}"
        try:
            known = await cache.get_record(key)
            await remote.connect(measure=not settings.metered)
            stack = await begun(settings, remote, cache, known or settings.root)
            cache.disk.set_record(key, stack.tree.root.path)
        except (*AWAY, ServerFailure, OSError) as error:
            if not offline or known is None:
                raise
            log.warning("coming up offline: %s", error)
            stack = stack or Stack(settings, remote, cache, known)
            if not await stack.tree.recall_root():
                raise
        yield stack
    finally:
        if stack is not None:
            await stack.aclose()
        else:
            await remote.aclose()
            await cache.close()


def run(
    settings: Settings,
    work: Callable[[Stack], Awaitable[T]],
    prompter: Prompter | None = None,
    *,
    offline: bool = False,
) -> T:
    """What `work` returns, given a stack of its own. Blocks; raises as `open_stack`, and what `work` raises."""

    async def main() -> T:
        async with open_stack(settings, prompter, offline=offline) as stack:
            return await work(stack)

    return asyncio.run(main())


async def begun(settings: Settings, remote: SftpRemote, cache: BlockCache, likely: bytes) -> Stack:
    """A stack whose root is listed. The directory that is `likely` the root is listed while the server says which one it is.

    Raises RootUnusable, RemoteError, Unreachable.
    """
    stack = Stack(settings, remote, cache, likely)
    root, listed = await asyncio.gather(
        real_root(remote, settings.root), stack.tree.start(), return_exceptions=True
    )
    if isinstance(root, BaseException):
        raise root
    try:
        if root != likely:
            stack = Stack(settings, remote, cache, root)
            await stack.tree.start()
        elif listed is not None:
            raise listed
    except (AccessDenied, NoSuchPath, NotDirectory) as error:
        raise RootUnusable(f"{settings.remote_root} cannot be listed on the server") from error
    return stack


async def real_root(remote: Remote, root: bytes) -> bytes:
    """The root with symlinks resolved. Raises RootUnusable when it is not a directory that can be listed."""
    shown = root.decode(errors="replace")
    try:
        real = await remote.realpath(root)
        attributes, real = await asyncio.gather(remote.stat(real), without_symlinks(remote, real))
    except NoSuchPath as error:
        raise RootUnusable(f"there is no {shown} on the server") from error
    except AccessDenied as error:
        raise RootUnusable(f"{shown} may not be read on the server") from error
    if not attributes.is_dir:
        raise RootUnusable(f"{shown} is not a directory on the server")
    return real


def probe(settings: Settings, prompter: Prompter | None, *, fall_back: bool) -> ProbeResult:
    """Connect once, and see whether the root can be listed. `fall_back`: as for `make_dialer`.

    Raises ConnectError, RootUnusable. Blocks.
    """

    async def look() -> ProbeResult:
        remote = SftpRemote(make_dialer(settings, prompter, fall_back=fall_back), settings.timeout)
        closes: SftpRemote | Stack = remote
        try:
            await remote.connect(keep_trying=False)
            closes = stack = await begun(settings, remote, BlockCache(None), settings.root)
            root = stack.tree.root
            return ProbeResult(root.path, len(root.children), remote.link.rtt, remote.transport)
        finally:
            await closes.aclose()

    return asyncio.run(look())


def with_address(settings: Settings, line: str, transport: str) -> Settings:
    """The same settings for a new address line."""
    kind: TransportName = "openssh" if transport == "openssh" else "paramiko"
    return replace(settings, address=Address.parse(line), transport=kind)
