"""The server's present time, where the inode of /proc/self does not tell it.

That inode is made at the first look at it. OpenSSH has a process for each connection, so that it is new; in a server of one
process for all it is as old as the first client. There the time is that of the last boot and the seconds since then.
"""

from __future__ import annotations

import asyncio
import logging
import re

from vfs.base.errors import ArtisyncError
from vfs.remote.sftp.connection import Connection

log = logging.getLogger(__name__)

MOST = 256 << 10
"""Bytes of /proc/stat that are looked at; its interrupts come before the time of the boot."""


async def since_boot(connection: Connection) -> tuple[int, float] | None:
    """The server's time (Unix seconds) and the loop's, not earlier than that; None where it does not tell."""
    try:
        boot = re.search(rb"^btime (\d{1,10})$", await _text(connection, b"/proc/stat"), re.MULTILINE)
        up = re.match(rb"(\d{1,10})\.", await _text(connection, b"/proc/uptime"))
    except ArtisyncError as error:
        log.debug("no clock: %s", error)
        return None
    if boot is None or up is None:
        return None
    return int(boot[1]) + int(up[1]), asyncio.get_running_loop().time()


async def _text(connection: Connection, path: bytes) -> bytes:
    """The beginning of a file. Raises as the server does."""
    handle = await connection.open(path)
    buffer = bytearray(MOST)
    try:
        count, _ = await asyncio.shield(connection.read(handle, 0, memoryview(buffer), path))
    finally:
        connection.close_handle(handle)
    return bytes(buffer[:count])
