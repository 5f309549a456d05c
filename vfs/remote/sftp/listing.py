"""A directory read over one connection: many READDIRs under way, bounded, hostile names left out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from vfs.base.each import each
from vfs.base.errors import LinkLost, ListingTooLong, NoSuchPath, RemoteError, ServerFailure
from vfs.remote import api
from vfs.remote.api import LONGEST_NAME, DirEntry
from vfs.remote.sftp import substitutes, wire
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.exchange import seen
from vfs.remote.sftp.handles import Handle
from vfs.remote.sftp.wire import Status

log = logging.getLogger(__name__)

NEAR = 0.003
"""Round trips (seconds) below which few are under way, so that few are asked for beyond the end."""
DEPTH = 32
"""READDIRs under way for one directory at most; OpenSSH answers with a hundred names each."""
EMPTY = 8
"""Answers without names in one listing, at most."""
ASKED_AT_ONCE = 256
"""Names whose attributes are asked for at a time, where listings do not tell them."""
ATTEMPTS = 4
"""Listings begun at most, where one fails over a name that goes away meanwhile."""
MOST_ENTRIES = 250_000
"""Names in one directory beyond which a server is not believed: some 60 MB for each listing under way."""


async def scandir(
    connection: Connection, path: bytes, wanted: Callable[[], bool] = lambda: True
) -> list[DirEntry]:
    """The whole directory, without `.` and `..` and without names that no local file could have.

    `wanted` tells whether somebody waits for it just now. Raises ListingTooLong.
    """
    for attempt in range(1, ATTEMPTS + 1):
        handle = await connection.opendir(path)
        try:
            entries = await _entries(connection, path, handle, wanted)
            break
        except NoSuchPath:  # asyncssh's server says so of a directory that is there, see `ATTEMPTS`
            if attempt == ATTEMPTS:
                raise
    untold = any(entry.attributes == wire.UNTOLD for entry in entries)
    return await _told(connection, path, entries) if untold else entries


async def _entries(
    connection: Connection, path: bytes, handle: Handle, wanted: Callable[[], bool]
) -> list[DirEntry]:
    """As `scandir`, as far as READDIR tells; `handle` is closed."""
    entries: list[DirEntry] = []
    under_way: deque[asyncio.Future[Any]] = deque()
    depth, more, count, empty, answers = 2, True, 0, 0, 0
    try:
        while more or under_way:
            # the second answer comes with the first, and is the end of most directories
            while more and len(under_way) < depth and answers != 1:
                under_way.append(connection.readdir(handle, path))
            answer = await _page(under_way.popleft(), handle)
            answers += 1
            if isinstance(answer, Status):
                more = False
                continue
            if not answer:  # Erlang's server says so of an empty directory
                empty += 1
                if empty > EMPTY:
                    raise ServerFailure(f"{path!r}: a listing without names and without end")
            count += len(answer)
            most = MOST_ENTRIES if wanted() else api.MOST_AHEAD
            if count > most:
                raise ListingTooLong(f"{path!r} has more than {most} entries")
            entries.extend(entry for entry in answer if _possible(entry.name))
            depth = min(DEPTH, depth * 2 if connection.rtt >= NEAR else depth + 1)
    finally:
        for future in under_way:
            future.add_done_callback(seen)
        connection.close_handle(handle)
    return entries


async def _page(asked: asyncio.Future[Any], handle: Handle) -> list[DirEntry] | Status:
    """Names of the handle's directory. Raises LinkLost where the server gave the handle out for something else, too."""
    try:
        names: list[DirEntry] | Status = await asked
    except RemoteError:
        if handle.open:
            raise
    else:
        if handle.open:
            return names
    raise LinkLost("the directory's handle is another's")


async def _told(connection: Connection, path: bytes, entries: list[DirEntry]) -> list[DirEntry]:
    """The entries, with the attributes that the listing left out. Names that are gone meanwhile are left out."""

    async def told(entry: DirEntry) -> DirEntry | None:
        if entry.attributes != wire.UNTOLD:
            return entry
        try:
            attributes = await substitutes.lstat(connection, path.rstrip(b"/") + b"/" + entry.name)
            return DirEntry(entry.name, attributes)
        except NoSuchPath:
            return None
        except RemoteError as error:
            log.debug("a name of which nothing is told: %s", error)
            return entry

    return [entry for entry in await each(entries, told, ASKED_AT_ONCE) if entry is not None]


def _possible(name: bytes) -> bool:
    """Whether a local file could have this name."""
    if name in (b"", b".", b"..") or len(name) > LONGEST_NAME:
        return False
    return b"/" not in name and b"\0" not in name
