"""Checks over SSH: host key, key, SFTP, the root, the experiments in it, the server's clock.

One connection does them all. Whether it was made, or why not, shows the state of host key and login.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Generator

from vfs.base import errors
from vfs.base.settings import Settings
from vfs.base.units import ago, count, duration, size
from vfs.cache.blocks import BlockCache
from vfs.commands.doctor.finding import Finding, Result
from vfs.files import experiments
from vfs.files.node import Kind, Node
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.hostkeys import KnownHosts
from vfs.remote.ssh.transport import Dialer
from vfs.stack import Stack, begun

CHECKS = ("host_key", "login", "sftp", "root", "experiments", "read", "clock")

READ = 32 << 10
"""Bytes of a file that are read, or fewer where it ends."""
SAME_CLOCK = 3.0
"""Seconds that two clocks may seem to differ by, since the server's is in whole seconds, and comes late."""

_HOST_KEY = (errors.HostKeyUnknown, errors.HostKeyChanged, errors.HostKeyRevoked)
_LOGIN = (errors.AuthRejected, errors.KeyFileUnusable, errors.PassphraseNeeded)


def look(
    settings: Settings, dialer: Dialer, destination: Destination, experiment: str | None
) -> Generator[Finding, None, None]:
    """The findings of CHECKS in order; ends with the first failure that makes the rest pointless.

    Each takes `settings.timeout` at most, but for the time in which a person is asked for a passphrase.
    """
    findings = _findings(settings, dialer, destination, experiment)

    async def following() -> Finding | None:
        return await anext(findings, None)

    with asyncio.Runner() as runner:
        try:
            while (finding := runner.run(following())) is not None:
                yield finding
        finally:
            runner.run(findings.aclose())


async def _findings(
    settings: Settings, dialer: Dialer, destination: Destination, experiment: str | None
) -> AsyncGenerator[Finding, None]:
    """As `look`. Each finding is waited for by another task, so none is yielded within a timeout."""
    remote = SftpRemote(dialer, settings.timeout)
    closes: SftpRemote | Stack = remote
    try:
        try:
            await remote.connect(keep_trying=False)
        except errors.ConnectError as error:
            for finding in _not_connected(settings, dialer, destination, error):
                yield finding
            return
        yield _host_key(settings, destination)
        yield _login(dialer, destination)
        yield Finding("sftp", Result.OK, f"answers in {remote.link.rtt * 1000:.1f} ms")
        try:
            async with asyncio.timeout(settings.timeout):
                # without a disk cache: findings are what the server says now, and the cache may be damaged
                closes = opened = await begun(settings, remote, BlockCache(None), settings.root)
        except (errors.ArtisyncError, TimeoutError) as error:
            yield Finding.of_error("root", error)
            return
        root = opened.tree.root
        entries = count(len(root.children), "entry", "entries")
        yield Finding("root", Result.OK, f"{os.fsdecode(root.path)} can be read and holds {entries}")
        found, newest = await _experiments(opened, experiment)
        yield found
        if newest is not None:
            yield await _read(opened, newest)
        else:
            why = "there is no file yet" if found.result is Result.OK else "skipped (needs: experiments)"
            yield Finding("read", Result.SKIPPED, why)
        yield await _clock(opened, dialer, newest)
    finally:
        await closes.aclose()


# --- connecting ---------------------------------------------------------------------------------------------------


def _not_connected(
    settings: Settings, dialer: Dialer, destination: Destination, error: errors.ConnectError
) -> list[Finding]:
    """The checks up to the one that the error belongs to."""
    if isinstance(error, _LOGIN):
        return [_host_key(settings, destination), Finding.of_error("login", error)]
    began = isinstance(error, errors.NoSftp) or isinstance(error.__cause__, errors.LinkLost)
    if began or (dialer.login and not isinstance(error, _HOST_KEY)):
        known = _host_key(settings, destination)
        return [known, _login(dialer, destination), Finding.of_error("sftp", error)]
    return [Finding.of_error("host_key", error)]


def _login(dialer: Dialer, destination: Destination) -> Finding:
    how = dialer.login.removeprefix("with ") or "a key that the system's ssh chose"
    return Finding("login", Result.OK, f"{destination.user}@{destination.place} accepts {how}")


def _host_key(settings: Settings, destination: Destination) -> Finding:
    """By what the server proved itself."""
    name = destination.key_name
    known = KnownHosts(settings.known_hosts, destination.known_hosts)
    trusted = known.trusted(name)
    if trusted:
        places = {entry.key: entry.place for entry in reversed(trusted)}  # of each key the first line
        keys = ", ".join(f"{key} ({place})" for key, place in reversed(places.items()))
        return Finding("host_key", Result.OK, f"known: {keys}")
    authority = known.by_authority(name)
    if authority is not None:
        return Finding("host_key", Result.OK, f"a certificate authority vouches for it ({authority.place})")
    return Finding("host_key", Result.SKIPPED, f"the key of {name} was not seen")


# --- the root and files --------------------------------------------------------------------------------------------


async def _experiments(opened: Stack, experiment: str | None) -> tuple[Finding, Node | None]:
    """The finding, and the newest file that was seen."""
    tree, settings = opened.tree, opened.settings
    newest: Node | None = None
    incomplete = ""
    try:
        async with asyncio.timeout(settings.timeout):
            found = await experiments.experiments(tree)
            if experiment is not None:
                name = experiments.choose(experiment, list(found))
                found = {name: found[name]}
    except (errors.ArtisyncError, TimeoutError) as error:
        return Finding.of_error("experiments", error), None
    if not found:
        text = f"there is no experiment in {settings.remote_root} yet"
        return Finding("experiments", Result.FAILED, text, errors.NoSuchExperiment().hint), None
    try:
        async with asyncio.timeout(settings.timeout):
            top = next(iter(found.values())) if experiment is not None else tree.root
            async for node in experiments.walk(tree, top):
                if node.kind is Kind.FILE and (newest is None or node.latest.mtime > newest.latest.mtime):
                    newest = node
    except TimeoutError:
        incomplete = f" (incomplete after {duration(settings.timeout)})"
    except errors.ArtisyncError as error:
        return Finding.of_error("experiments", error), newest
    what = next(iter(found)) if len(found) == 1 else f"{len(found)} experiments"
    last = "no file yet"
    if newest is not None:
        since = ago(experiments.seconds_ago(tree, newest.latest.mtime))
        last = f"last change {since}: {os.fsdecode(newest.relative)}"
    return Finding("experiments", Result.OK, f"{what}; {last}{incomplete}"), newest


async def _read(opened: Stack, node: Node) -> Finding:
    """The beginning of the newest file: a server may list what it does not give."""
    buffer = memoryview(bytearray(READ))
    try:
        async with asyncio.timeout(opened.settings.timeout):
            file = await opened.remote.open(node.path)
            try:
                count, _ = await file.read(0, buffer)
            finally:
                file.close()
    except (errors.ArtisyncError, TimeoutError) as error:
        return Finding.of_error("read", error)
    return Finding("read", Result.OK, f"read {size(count)} of {os.fsdecode(node.relative)}")


async def _clock(opened: Stack, dialer: Dialer, node: Node | None) -> Finding:
    now = opened.remote.link.server_time
    ahead = None if now is None else now - time.time()
    if ahead is not None and ahead < -SAME_CLOCK and await _stands_still(opened, dialer):
        ahead = None
    return clock_finding(ahead, node.latest.mtime - time.time() if node is not None else 0.0)


async def _stands_still(opened: Stack, dialer: Dialer) -> bool:
    """Whether a later connection is told the same time: then it is that of the server's first client."""
    first = {connection.server_clock[0] for connection in opened.remote.alive if connection.server_clock}
    await asyncio.sleep(SAME_CLOCK)
    later = SftpRemote(dialer, opened.settings.timeout)
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
