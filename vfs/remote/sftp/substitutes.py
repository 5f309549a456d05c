"""Requests that a server may refuse, and their substitutes: docs/servers.md has the table.

The substitute shows whether it was a refusal or an ordinary error. If LSTAT of a path is denied and its substitute is not, the
server refuses LSTAT for every path; it is not sent LSTAT again on that connection.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import os
import posixpath
import stat as modes
from collections.abc import Awaitable, Callable
from typing import TypeVar

from vfs.base.errors import AccessDenied, EndlessSymlink, RemoteError, ServerFailure, Unsupported
from vfs.remote.api import LONGEST_PATH, MOST_SYMLINKS, Attributes
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.exchange import seen
from vfs.remote.sftp.wire import PacketType

REFUSALS = (AccessDenied, Unsupported)
T = TypeVar("T")


async def lstat(connection: Connection, path: bytes) -> Attributes:
    """Attributes of the name itself, not of what a symlink leads to. Raises as the server says."""
    return await _asked(connection, PacketType.LSTAT, connection.lstat, _looked_at, path)


async def stat(connection: Connection, path: bytes) -> Attributes:
    """Attributes behind all links. Raises as the server says, and EndlessSymlink for links in a circle."""
    try:
        return await _asked(connection, PacketType.STAT, connection.stat, _followed, path)
    except ServerFailure as error:  # some say so of links in a circle
        try:
            await _followed(connection, path)
        except EndlessSymlink:
            raise
        except RemoteError:
            pass
        raise error from None


async def realpath(connection: Connection, path: bytes) -> bytes:
    """The path without links; some servers only remove `.` and `..` from the text. Raises as the server says."""
    return await _asked(connection, PacketType.REALPATH, connection.realpath, _as_it_is, path)


async def statvfs(connection: Connection, path: bytes) -> os.statvfs_result | None:
    """None where the server does not tell."""
    try:
        return await connection.statvfs(path)
    except (*REFUSALS, ServerFailure):
        return None


async def _asked(
    connection: Connection,
    kind: PacketType,
    request: Callable[[bytes], Awaitable[T]],
    substitute: Callable[[Connection, bytes], Awaitable[T]],
    path: bytes,
) -> T:
    """The answer to the request of this kind, or the substitute's where the server refuses it. If both fail, the request's error."""
    if kind in connection.refused:
        return await substitute(connection, path)
    try:
        return await request(path)
    except REFUSALS as error:
        try:
            found = await substitute(connection, path)
        except RemoteError:
            raise error from None
        connection.refused.add(kind)
        return found


async def _as_it_is(connection: Connection, path: bytes) -> bytes:
    """REALPATH without REALPATH, of a path that is there."""
    await stat(connection, path)
    return posixpath.normpath(path)


async def _looked_at(connection: Connection, path: bytes) -> Attributes:
    """LSTAT without LSTAT."""
    there = connection.stat(path)
    there.add_done_callback(seen)
    try:
        return Attributes(modes.S_IFLNK | 0o777, len(await connection.readlink(path)))
    except RemoteError:
        return await there


async def _followed(connection: Connection, path: bytes) -> Attributes:
    """STAT without STAT."""
    for _ in range(MOST_SYMLINKS):
        attributes = await lstat(connection, path)
        if not attributes.is_symlink:
            return attributes
        # the server finds its way through `..` and through links before the last name
        path = posixpath.join(posixpath.dirname(path), await connection.readlink(path))
        if len(path) > LONGEST_PATH:
            break
    raise EndlessSymlink(f"{path!r}")
