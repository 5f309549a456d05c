"""The server's present time, where the inode of /proc/self does not tell it.

An inode of /proc gets its mtime when it is first looked at. OpenSSH has a process for each connection, so its /proc/self is
new. Where one process serves all clients, /proc/self is as old as the first client. There the youngest process in a listing
of /proc tells the time: late by that process's age, and never early. No file is read: some servers cannot read one of no size.
"""

from __future__ import annotations

import asyncio
import logging

from vfs.base.errors import ArtisyncError
from vfs.remote.connectivity import Link
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.listing import scandir

log = logging.getLogger(__name__)


async def of_processes(connection: Connection, link: Link) -> None:
    """Tell `link` the server's time."""
    try:
        entries = await scandir(connection, b"/proc", lambda: False)
    except ArtisyncError as error:
        log.debug("no clock: %s", error)
        return
    told = max((entry.attributes.mtime for entry in entries if entry.name.isdigit()), default=0)
    if told:
        link.saw_clock((told, asyncio.get_running_loop().time()))
