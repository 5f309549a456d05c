"""How fast a path is, before anybody reads over it: some bytes of /dev/urandom, which no compression makes fewer.

The first large read over a long path would otherwise have a round trip in which next to nothing is in flight. A server
that does not have the device is no trouble; the read then begins with little.
"""

from __future__ import annotations

import asyncio
import logging

from vfs.base.errors import ArtisyncError
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.handles import Handle

log = logging.getLogger(__name__)

KIB = 1 << 10
SOURCE = b"/dev/urandom"
FAR = 0.01
"""Round trips (seconds) from which it is worth knowing: below, the first one of a read is over soon."""
SIZES = 64 * KIB, 256 * KIB
"""Bytes that are asked for, one after the other."""
QUICK = 0.02
"""Seconds within which the first must come for the second to be asked for: 25 Mbit/s."""
FIRST = 4 * KIB
"""Bytes in front of them, whose arrival is where the time begins if a busy process had made the round trip look too long."""
INSTANT = 0.002
"""Seconds; a shorter time counts as this long, and that of the first as so much longer: it is to tell a path of 1 Gbit/s whose
second ones came in a busy moment, and must not make 100 Mbit/s look fast."""


async def first_rate(connection: Connection, rtt: float) -> float:
    """Bytes per second; 0.0 where it cannot be told. It may be far too low (TCP starts slowly), and hardly too high."""
    loop, rate = asyncio.get_running_loop(), 0.0

    async def arrived(handle: Handle, size: int) -> tuple[int, float]:
        count, _ = await connection.read(handle, 0, memoryview(bytearray(size)), SOURCE)
        return count, loop.time()

    try:
        handle = await connection.open(SOURCE)
        try:
            for size in SIZES:
                began = loop.time()
                (_, first), (count, last) = await asyncio.gather(
                    arrived(handle, FIRST), arrived(handle, size)
                )
                took = max(INSTANT, last - began - rtt, last - first)
                rate = max(rate, count / (took if rate else took + INSTANT))
                if took > QUICK:
                    break
        finally:
            connection.close_handle(handle)
    except ArtisyncError as error:
        log.debug("no rate: %s", error)
    return rate
