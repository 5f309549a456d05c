"""Requests that a server may refuse, and their substitutes: docs/servers.md has the table.

The substitute shows whether it was a refusal or an ordinary error. If LSTAT of a path is denied and its substitute is not, the
server refuses LSTAT for every path; it is not sent LSTAT again on that connection.

Owned by the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import posixpath
import stat as modes
from collections.abc import Awaitable
from typing import TypeVar

from vfs.base.errors import AccessDenied, EndlessSymlink, RemoteError, ServerFailure, Unsupported
from vfs.remote.api import LONGEST_PATH, MOST_SYMLINKS, Attributes, FsStats
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.wire import PacketType

REFUSALS = (AccessDenied, Unsupported)
T = TypeVar("T")


async def lstat(connection: Connection, path: bytes) -> Attributes:
    """Attributes of the name itself, not of what a symlink leads to. Raises as the server says."""
    if PacketType.LSTAT in connection.refused:
        return await _looked_at(connection, path)
    try:
        return await connection.lstat(path)
    except REFUSALS as error:
        found = await _unless_refused(_looked_at(connection, path), error)
        connection.refused.add(PacketType.LSTAT)
        return found


async def stat(connection: Connection, path: bytes) -> Attributes:
    """Attributes behind all links. Raises as the server says, and EndlessSymlink for links in a circle."""
    if PacketType.STAT in connection.refused:
        return await _followed(connection, path)
    try:
        return await connection.stat(path)
    except REFUSALS as error:
        found = await _unless_refused(_followed(connection, path), error)
        connection.refused.add(PacketType.STAT)
        return found
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
    if PacketType.REALPATH not in connection.refused:
        try:
            return await connection.realpath(path)
        except REFUSALS as error:
            await _unless_refused(stat(connection, path), error)
            connection.refused.add(PacketType.REALPATH)
    return posixpath.normpath(path)


async def statvfs(connection: Connection, path: bytes) -> FsStats | None:
    """None where the server does not tell."""
    try:
        return await connection.statvfs(path)
    except (*REFUSALS, ServerFailure):
        return None


async def _unless_refused(substitute: Awaitable[T], error: RemoteError) -> T:
    """The substitute's result. If it fails too, `error` is raised."""
    try:
        return await substitute
    except RemoteError:
        raise error from None


async def _looked_at(connection: Connection, path: bytes) -> Attributes:
    """LSTAT without LSTAT."""
    text, there = await asyncio.gather(
        connection.readlink(path), connection.stat(path), return_exceptions=True
    )
    if isinstance(text, bytes):
        return Attributes(modes.S_IFLNK | 0o777, len(text))
    for answer in (text, there):
        if isinstance(answer, BaseException) and not isinstance(answer, RemoteError):
            raise answer
    if isinstance(there, RemoteError):
        raise there
    assert isinstance(there, Attributes)
    return there


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
