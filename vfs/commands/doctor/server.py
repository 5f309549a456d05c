"""Checks over SSH: host key, key, SFTP, the root, the experiments in it, the server's clock.

One connection does them all. Whether it was made, or why not, shows the state of host key and login.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Generator, Iterator
from typing import Any, TypeVar

from vfs import stack
from vfs.base import errors
from vfs.base.settings import Settings
from vfs.base.units import ago, count, duration, size
from vfs.cache.blocks import BlockCache
from vfs.commands.doctor.finding import Finding, Result
from vfs.files import experiments
from vfs.files.node import Kind, Node
from vfs.files.tree import Tree
from vfs.remote.sftp.pool import Pool
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.hostkeys import KnownHosts
from vfs.remote.ssh.transport import Dialer
from vfs.stack import Stack

CHECKS = ("host_key", "login", "sftp", "root", "experiments", "read", "clock")

READ = 32 << 10
"""Bytes of a file that are read."""
SAME_CLOCK = 3.0
"""Seconds that two clocks may seem to differ by, since the server's is in whole seconds, and comes late."""

_HOST_KEY = (errors.HostKeyUnknown, errors.HostKeyChanged, errors.HostKeyRevoked)
_LOGIN = (errors.AuthRejected, errors.KeyFileUnusable, errors.PassphraseNeeded)

T = TypeVar("T")


def look(
    settings: Settings, dialer: Dialer, destination: Destination, experiment: str | None
) -> Generator[Finding, None, None]:
    """The findings of CHECKS in order; ends with the first failure that makes the rest pointless.

    Each takes `settings.timeout` at most, but for the time in which a person is asked for a passphrase.
    """
    with asyncio.Runner() as runner:
        server = _Server(settings, dialer, destination)
        try:
            for findings in server.steps(experiment):
                found = runner.run(findings)
                yield from found
                if found[-1].result is Result.FAILED and found[-1].check not in ("experiments", "read"):
                    return
        finally:
            runner.run(server.aclose())


class _Server:
    """The connection under examination."""

    def __init__(self, settings: Settings, dialer: Dialer, destination: Destination) -> None:
        self._settings = settings
        self._dialer = dialer
        self._destination = destination
        self._pool: Pool | None = None
        self._stack: Stack | None = None
        self._newest: Node | None = None
        self._looked = False
        """Whether the experiments were looked through."""

    def steps(self, experiment: str | None) -> Iterator[Coroutine[Any, Any, list[Finding]]]:
        """In order; each to be run to its end before the next is taken."""
        yield self._connect()
        yield self._root()
        yield self._experiments(experiment)
        yield self._read()
        yield self._clock()

    async def aclose(self) -> None:
        """Hang up."""
        if self._stack is not None:
            await self._stack.aclose()
        elif self._pool is not None:
            await self._pool.aclose()

    # --- connecting ---------------------------------------------------------------------------------------------

    async def _connect(self) -> list[Finding]:
        self._pool = pool = Pool(self._dialer, timeout=self._settings.timeout)
        try:
            await pool.connect(keep_trying=False)
        except errors.ConnectError as error:
            return self._failed(error)
        return [
            self._host_key(),
            self._login(),
            Finding("sftp", Result.OK, f"answers in {pool.link.rtt * 1000:.1f} ms"),
        ]

    def _failed(self, error: errors.ConnectError) -> list[Finding]:
        """The checks up to the one that the error belongs to."""
        if isinstance(error, _LOGIN):
            return [self._host_key(), Finding.of_error("login", error)]
        began = isinstance(error, errors.NoSftp) or isinstance(error.__cause__, errors.LinkLost)
        if began or (self._dialer.login and not isinstance(error, _HOST_KEY)):
            return [self._host_key(), self._login(), Finding.of_error("sftp", error)]
        return [Finding.of_error("host_key", error)]

    def _login(self) -> Finding:
        how = self._dialer.login.removeprefix("with ") or "a key that the system's ssh chose"
        who = f"{self._destination.user}@{self._destination.place}"
        return Finding("login", Result.OK, f"{who} accepts {how}")

    def _host_key(self) -> Finding:
        """By what the server proved itself."""
        name = self._destination.key_name
        known = KnownHosts(self._settings.known_hosts, self._destination.known_hosts)
        trusted = known.trusted(name)
        if trusted:
            places = {entry.key: entry.place for entry in reversed(trusted)}  # of each key the first line
            keys = ", ".join(f"{key} ({place})" for key, place in reversed(places.items()))
            return Finding("host_key", Result.OK, f"known: {keys}")
        authority = known.by_authority(name)
        if authority is not None:
            return Finding(
                "host_key", Result.OK, f"a certificate authority vouches for it ({authority.place})"
            )
        return Finding("host_key", Result.SKIPPED, f"the key of {name} was not seen")

    # --- what is there ------------------------------------------------------------------------------------------

    async def _root(self) -> list[Finding]:
        settings, pool = self._settings, self._pool
        assert pool is not None
        try:
            async with asyncio.timeout(settings.timeout):
                root = await stack.real_root(SftpRemote(pool), settings.root)
                # without a disk cache: findings are what the server says now, and the cache may be damaged
                self._stack = Stack(settings, pool, BlockCache(None), root)
                with stack.root_listed(settings):
                    names = await self._stack.tree.listing(self._stack.tree.root)
        except (errors.ArtisyncError, TimeoutError) as error:
            return [Finding.of_error("root", error)]
        entries = count(len(names), "entry", "entries")
        return [Finding("root", Result.OK, f"{os.fsdecode(root)} can be read and holds {entries}")]

    async def _experiments(self, experiment: str | None) -> list[Finding]:
        assert self._stack is not None
        tree = self._stack.tree
        whole = True
        try:
            async with asyncio.timeout(self._settings.timeout):
                found = await experiments.experiments(tree)
                if experiment is not None:
                    name = experiments.choose(experiment, list(found))
                    found = {name: found[name]}
        except (errors.ArtisyncError, TimeoutError) as error:
            return [Finding.of_error("experiments", error)]
        if not found:
            text = f"there is no experiment in {self._settings.remote_root} yet"
            return [Finding("experiments", Result.FAILED, text, errors.NoSuchExperiment().hint)]
        try:
            async with asyncio.timeout(self._settings.timeout):
                top = next(iter(found.values())) if experiment is not None else tree.root
                await self._find_newest(tree, top)
        except TimeoutError:
            whole = False
        except errors.ArtisyncError as error:
            return [Finding.of_error("experiments", error)]
        self._looked = True
        what = next(iter(found)) if len(found) == 1 else f"{len(found)} experiments"
        text = f"{what}; {self._last_change(tree)}"
        if not whole:
            text += f" (incomplete after {duration(self._settings.timeout)})"
        return [Finding("experiments", Result.OK, text)]

    async def _find_newest(self, tree: Tree, top: Node) -> None:
        async for node in experiments.walk(tree, top):
            if node.kind is Kind.FILE and (
                self._newest is None or node.latest.mtime > self._newest.latest.mtime
            ):
                self._newest = node

    def _last_change(self, tree: Tree) -> str:
        if self._newest is None:
            return "no file yet"
        path = os.fsdecode(self._newest.relative)
        return f"last change {ago(experiments.seconds_ago(tree, self._newest.latest.mtime))}: {path}"

    async def _read(self) -> list[Finding]:
        """The beginning of the newest file: a server may list what it does not give."""
        assert self._pool is not None
        node = self._newest
        if node is None:
            why = "there is no file yet" if self._looked else "skipped (needs: experiments)"
            return [Finding("read", Result.SKIPPED, why)]
        buffer = memoryview(bytearray(min(node.version.size, READ)))
        try:
            async with asyncio.timeout(self._settings.timeout):
                file = await SftpRemote(self._pool).open(node.path)
                try:
                    await file.read(0, buffer)
                finally:
                    file.close()
        except (errors.ArtisyncError, TimeoutError) as error:
            return [Finding.of_error("read", error)]
        return [Finding("read", Result.OK, f"read {size(len(buffer))} of {os.fsdecode(node.relative)}")]

    async def _clock(self) -> list[Finding]:
        assert self._pool is not None
        now = self._pool.link.server_time
        ahead = None if now is None else now - time.time()
        if ahead is not None and ahead < -SAME_CLOCK and await self._stands_still():
            ahead = None
        newest = self._newest.latest.mtime - time.time() if self._newest is not None else 0.0
        return [clock_finding(ahead, newest)]

    async def _stands_still(self) -> bool:
        """Whether a later connection is told the same time: then it is that of the server's first client."""
        assert self._pool is not None
        first = {connection.server_clock[0] for connection in self._pool.alive if connection.server_clock}
        await asyncio.sleep(SAME_CLOCK)
        later = Pool(self._dialer, timeout=self._settings.timeout)
        try:
            await later.connect(keep_trying=False)
            return any(one.server_clock and one.server_clock[0] in first for one in later.alive)
        except errors.ConnectError:
            return True
        finally:
            await later.aclose()


def clock_finding(ahead: float | None, newest: float) -> Finding:
    """What two clocks tell. In seconds after this machine's clock: the server's, if it is known, and the newest mtime."""
    advice = (
        "Times of files are the server's. Set this machine's clock, if it is the wrong one: `timedatectl`."
    )
    if ahead is not None and abs(ahead) > SAME_CLOCK:
        which = "ahead of" if ahead > 0 else "behind"
        text = f"the server's clock is {duration(abs(ahead))} {which} this machine's"
        return Finding("clock", Result.WARNING, text, advice)
    if newest > SAME_CLOCK:
        text = f"a file was written {duration(newest)} in the future; the clock of the machine that wrote it is ahead"
        return Finding("clock", Result.WARNING, text, advice)
    if ahead is None:
        return Finding("clock", Result.SKIPPED, "the server does not tell its time")
    return Finding("clock", Result.OK, "the server's and this machine's agree")
