"""The order of the checks, and what an earlier failure makes pointless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice

from vfs.base.errors import ConfigError, ConnectError
from vfs.base.settings import Settings, cache_place
from vfs.commands.doctor import machine, network, server
from vfs.commands.doctor.finding import Finding, Result
from vfs.remote.ssh.transport import Prompter
from vfs.stack import make_dialer

TITLES = {
    "fuse": "FUSE",
    "nfs": "NFS",
    "profile": "profile",
    "name": "host name",
    "route": "route",
    "port": "port",
    "banner": "SSH banner",
    "host_key": "host key",
    "login": "login",
    "sftp": "SFTP",
    "root": "root",
    "experiments": "experiments",
    "read": "a file",
    "clock": "clock",
    "disk": "disk",
    "cache": "cache",
    "mounts": "mounts",
}
"""Every check, in order, with its name for people."""

CHECKS = tuple(TITLES)


def examine(
    given: Mapping[str, object], experiment: str | None, prompter: Prompter | None
) -> Iterator[Finding]:
    """A finding for each of CHECKS, as they come. Blocks, for a bounded time at each.

    `given` are the options as for `resolve`; `prompter` is asked for passphrases. Raises UsageError.
    """
    found, settings = machine.profile(given)
    yield machine.fuse()
    yield machine.nfs()
    yield found
    yield from _chain(found, _to_experiment(settings, experiment, prompter))
    seconds = settings.timeout if settings is not None else machine.STEP_SECONDS
    try:
        directory, limit = (settings.cache_dir, settings.cache_size) if settings else cache_place(given)
    except ConfigError:
        yield from (_skipped(check, found) for check in ("disk", "cache"))
    else:
        yield machine.room(directory, limit, seconds)
        yield machine.cache(directory, seconds)
    yield machine.mounts(seconds)


def _chain(before: Finding, links: Iterator[Finding]) -> Iterator[Finding]:
    """The links, and for those that did not come that they were skipped."""
    left = [*network.CHECKS, *server.CHECKS]
    broken = before
    for finding in links:
        left.remove(finding.check)
        if finding.result is Result.FAILED:
            broken = finding
        yield finding
    yield from (_skipped(check, broken) for check in left)


def _skipped(check: str, broken: Finding) -> Finding:
    return Finding(check, Result.SKIPPED, f"skipped (needs: {TITLES[broken.check]})")


def _to_experiment(
    settings: Settings | None, experiment: str | None, prompter: Prompter | None
) -> Iterator[Finding]:
    """From the host's name to an experiment, up to the first failure."""
    if settings is None:
        return
    dialer = make_dialer(settings, prompter)
    try:
        destination = dialer.destination(settings.timeout)
    except ConnectError as error:
        yield Finding.of_error("name", error)
        return
    way = network.look(destination, settings.timeout)
    for finding in islice(way, 2):  # the name and the route
        yield finding
        if finding.result is Result.FAILED:
            return
    with closing(server.look(settings, dialer, destination, experiment)) as beyond:
        # Before the port is looked at: a connection without a login counts against this address (PerSourcePenalties).
        first = next(beyond)
        for finding in way:
            if finding.result is not Result.FAILED:
                yield finding
            elif first.result is Result.FAILED:
                yield finding
                return
            else:
                yield Finding(finding.check, Result.SKIPPED, f"{finding.text}; but the login works")
        yield first
        yield from beyond
