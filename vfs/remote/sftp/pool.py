"""As many connections to the server as help; `SftpRemote` is one that answers what `api.Remote` asks.

Owned by the event loop's thread; there are no locks. Dialling runs on threads of its own, which end by themselves. A
request goes to the connection with the least under way; over a lost link it is asked again on the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from vfs.base.errors import (
    ArtisyncError,
    ConnectError,
    LinkLost,
    ProtocolViolation,
    RemoteError,
    ServerFailure,
    Unreachable,
)
from vfs.base.option_values import TransportName
from vfs.base.tasks import Tasks
from vfs.remote.connectivity import Link
from vfs.remote.sftp import clock
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.dialing import dial
from vfs.remote.sftp.first_rate import FAR, first_rate
from vfs.remote.sftp.reconnecting import Reconnecting
from vfs.remote.ssh.transport import Dialer

log = logging.getLogger(__name__)
T = TypeVar("T")

MIB = 1 << 20
NEAR = 0.003
"""Round trips (seconds) below which a second connection does not help."""
DIAL_SECONDS = 10.0
"""The most that one attempt to connect may take, so that a link that comes back is noticed."""
REFUSED_SECONDS = 60.0
"""How long no further connection is tried after the server refused one."""
STEADY = 0.5
"""Seconds that a link must have been up, unless it brought data, for the next attempt to be made at once."""
LATE = 3.0
"""Seconds by which a sound server's time may seem to be behind ours: it comes in whole seconds, and late."""
LOST_TOO_OFTEN = 10
"""Connections that one request may see lost; perhaps it is for this request that the server hangs up."""
FAST = 160e6
"""Bytes per second that the first connections are made for: 1 Gbit/s and some more."""
NEAR_WINDOW = 6 * MIB
"""Bytes in flight that fill any near link."""


class Share(NamedTuple):
    """Limits of one kind of connection.

    `size`: bytes in flight that are worth a connection. `most`: connections for large reads at most. `at_first`: those
    opened before the first read when the server is far, since each takes ten round trips to make. `full`: bytes in
    flight that keep a connection busy whose own window limits it, else None.
    """

    size: int
    most: int
    at_first: int
    full: int | None


WIDE, NARROW = Share(5 * MIB, 4, 2, None), Share(3 * MIB // 2, 8, 8, 3 * MIB)
"""WIDE: for streams with a large window. NARROW: for the system's `ssh`, whose window is 2 MiB; it takes three blocks of 1 MiB
to keep it full."""


class Pool:
    """The SFTP connections that `dialer` makes. `timeout`: seconds, as `--timeout`."""

    def __init__(self, dialer: Dialer, timeout: float) -> None:
        self.timeout = timeout
        self.link = Link(self._silence)
        self.last_error: ArtisyncError | None = None
        """Why there is no link; None while there is one."""
        self._dialer = dialer
        self._connections: list[Connection] = []
        self._dialing = Tasks()
        """Further connections that are being made."""
        self._tasks = Tasks()
        self._far = False
        """Whether the server was far at the last answer."""
        self._sees_rate = False
        """Whether some bytes may be fetched to see how fast a far server is."""
        self._no_more_until = 0.0
        self._came_up = 0.0, 0
        """When the link last did, and the bytes that had been delivered until then."""
        self._answered = False
        """Whether the link has answered a program's request since it came up."""
        self._sound_until = 0.0
        """When a connection that was lost last worked."""
        self._up = asyncio.Event()
        self.reconnecting = Reconnecting(self._dial_again)
        self._ping: asyncio.Task[None] | None = None
        self._closed = False
        self._suspects = asyncio.Lock()
        """Held for a request that may be the one that ends connections."""
        self._gone = {"bytes_received": 0, "bytes_sent": 0, "requests": 0}

    # --- connections --------------------------------------------------------------------------------------------

    async def connect(self, *, keep_trying: bool = True, measure: bool = False) -> None:
        """Make the first connection. Raises ConnectError; with `keep_trying`, reconnecting goes on in the background.

        `measure`: fetch some bytes to see how fast a far server is, now and when the path becomes another one.
        """
        try:
            await self._join(self._dialer, min(self.timeout, DIAL_SECONDS))
            self._sees_rate = measure
            self._see_rate()
        except ConnectError as error:
            self.last_error = error
            if keep_trying:
                self.reconnecting.begin()
            raise

    async def move(self, dialer: Dialer) -> None:
        """Go over to another address of the same files. Raises ConnectError; the old one is kept then."""
        connection = await dial(dialer, min(self.timeout, DIAL_SECONDS), self._lost)
        self.reconnecting.stop()  # its wait would outlast the next loss
        before, self._connections = self._connections, []
        self._dialer, self._no_more_until = dialer, 0.0
        self._adopt(connection, dialer)
        for old in before:
            self._count(old)
            old.close()

    async def _join(self, dialer: Dialer, timeout: float) -> None:
        """Make another connection. Raises ConnectError."""
        self._adopt(await dial(dialer, timeout, self._lost), dialer)

    def _adopt(self, connection: Connection, dialer: Dialer) -> None:
        """Use a connection, unless the pool has been closed or moved since `dialer` began to make it."""
        if self._closed or dialer is not self._dialer:
            connection.close()
            return
        if not self._connections:
            if self.last_error is not None:
                log.warning("online after %.0f s", asyncio.get_running_loop().time() - self.link.since)
            self.link.new_way()
            self._came_up = asyncio.get_running_loop().time(), self.link.path.delivered
            self._answered = False
        told = connection.server_clock
        self.link.saw_clock(told)
        if not self._connections and told is not None and told[0] < time.time() - LATE:
            self._tasks.spawn(clock.of_processes(connection, self.link))
        connection.saw_rtt, connection.load = self._saw_rtt, self._load
        self._connections.append(connection)
        self._far = False
        self._saw_rtt(connection.rtt)
        self.last_error = None
        self.link.changed(connected=True, at=asyncio.get_running_loop().time())
        self._up.set()

    def _see_rate(self) -> None:
        if self._sees_rate and self.link.rtt >= FAR and self.alive:
            self._tasks.spawn(self._first_rate(self.alive[0]))

    async def _first_rate(self, connection: Connection) -> None:
        self.link.path.saw_first(await first_rate(connection, self.link.rtt))

    def _lost(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._count(connection)
        self._sound_until = max(self._sound_until, connection.sound_until)
        if not self._connections and not self._closed:
            up_since, delivered = self._came_up
            if asyncio.get_running_loop().time() - up_since >= STEADY or self.link.path.delivered > delivered:
                self.reconnecting.attempts = 0
            elif self._answered:  # soon again, and not without a pause
                self.reconnecting.attempts = 1
            self._up.clear()
            self.last_error = connection.ended
            log.warning("offline: %s", connection.ended)
            self.link.changed(connected=False, at=self._sound_until)
            self.reconnecting.begin()

    def _count(self, connection: Connection) -> None:
        for key in self._gone:
            self._gone[key] += getattr(connection, key)

    async def _dial_again(self) -> bool:
        if self._connections:
            return True
        try:
            await self._join(self._dialer, min(self.timeout, DIAL_SECONDS / 2))
        except ConnectError as error:
            self.last_error = error
            log.info("cannot connect: %s", error)
        return bool(self._connections)

    def backlog(self, waiting: int) -> None:
        """Open more connections if `waiting` bytes would fill them."""
        self._probe()
        if self.link.rtt < NEAR:
            return
        share, useful = self.share, min(self.link.path.window, self.in_flight + waiting)
        self._dial_up_to(1 + min(share.most, math.ceil(useful / share.size)))

    def _saw_rtt(self, seconds: float, in_flight: int = 0) -> None:
        """Take in a round trip; once the server is far, have the connections that the first large read will need."""
        told = self.link.path.told
        self.link.saw_rtt(seconds, in_flight)
        if told and not self.link.path.told:  # another path, of which nothing is known
            self._see_rate()
        far, self._far = self._far, self.link.rtt >= NEAR
        if self._far and not far:
            share = self.share
            self._dial_up_to(1 + min(share.at_first, math.ceil(FAST * self.link.rtt / share.size)))

    @property
    def transport(self) -> TransportName:
        """The SSH implementation."""
        return self._dialer.transport

    @property
    def share(self) -> Share:
        """The limits of a connection of the present kind."""
        return NARROW if self._dialer.window_limited else WIDE

    def _dial_up_to(self, wanted: int) -> None:
        """Dial until there are `wanted` connections, unless the server is near or takes no more."""
        now = asyncio.get_running_loop().time()
        if not self._connections or self.link.rtt < NEAR or now < self._no_more_until or self._closed:
            return
        for _ in range(wanted - len(self._connections) - len(self._dialing)):
            self._dialing.spawn(self._one_more())

    async def _one_more(self) -> None:
        try:
            await self._join(self._dialer, DIAL_SECONDS)
        except ConnectError as error:
            log.info("the server accepts no more connections: %s", error)
            self._no_more_until = asyncio.get_running_loop().time() + REFUSED_SECONDS

    @property
    def alive(self) -> list[Connection]:
        """The connections on which requests can be sent."""
        return [connection for connection in self._connections if connection.alive]

    @property
    def wide(self) -> list[Connection]:
        """The connections for large reads: all but one, so that no small request waits behind a server's queue."""
        alive = self.alive
        return alive[1:] or alive

    async def connection(self) -> Connection:
        """A live connection, the one with the least under way. Raises Unreachable when there is none for too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            alive = self.alive
            if alive:
                return min(alive, key=lambda connection: connection.in_flight)
            self.reconnecting.hurry()
            down_since = began if self.link.connected else self.link.since
            left = down_since + self.timeout - loop.time()
            if left <= 0 or self._closed:
                raise Unreachable(str(self.last_error or "the link is down"))
            if self._connections:
                await asyncio.sleep(0.01)  # it is closing; its end is awaited before anything is asked again
                continue
            try:
                async with asyncio.timeout(left):
                    await self._up.wait()
            except TimeoutError as error:
                raise Unreachable(str(self.last_error or "the link is down")) from error

    async def ask(
        self,
        question: Callable[[Connection], Awaitable[T]],
        choose: Callable[[Connection], Connection] | None = None,
    ) -> T:
        """The answer to `question`, asked on the best connection, or on the one that `choose` picks given that one.

        Over a lost link it is asked again. One request may make the server hang up or violate the protocol, and fail those in
        flight beside it. So a request that was lost twice, or to a violation, is asked again one at a time. Raises Unreachable
        when there is no link for too long, RemoteError as the server does.
        """
        violations = lost = 0
        suspect = False
        while True:
            async with self._suspects if suspect else contextlib.nullcontext():
                connection = await self.connection()
                if choose is not None and len(self._connections) > 1:
                    connection = choose(connection)
                try:
                    answer = await question(connection)
                    self._answered = True
                    return answer
                except ProtocolViolation as error:
                    violations += error.known or suspect
                    suspect = True
                    if violations > 2:
                        raise ServerFailure(f"the server does not keep to SFTP: {error}") from error
                except LinkLost as error:
                    lost += 1
                    suspect = suspect or lost > 1
                    if lost >= LOST_TOO_OFTEN:
                        raise Unreachable(f"the connection is lost again and again: {error}") from error
                    log.debug("asked again: %s", error)

    # --- how busy it is ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Bytes of reads asked for and not yet answered."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def window(self) -> int:
        """See `api.Remote`."""
        window = self.link.path.window
        if self.link.rtt < NEAR:
            return min(window, NEAR_WINDOW)
        full = self.share.full
        if full is None:
            return window
        # requests on one connection do not move to another that is made meanwhile
        wide = max(1, len(self.wide))
        # where their own windows bound it, more is in the server's memory, not on the path
        return full * wide if window > self.share.size * wide else window

    @property
    def arrived(self) -> int:
        """Bytes that have come over all connections that there were."""
        return self._gone["bytes_received"] + sum(one.bytes_received for one in self._connections)

    def _load(self) -> int:
        return sum(connection.due_bytes for connection in self._connections)

    def _probe(self) -> None:
        """Send the small request by which the round trip is measured anew, once little is in flight."""
        path = self.link.path
        if path.probing and self._ping is None and self._load() <= path.clear and self.alive:
            self._ping = self._tasks.spawn(self._measure(self.alive[0]))

    async def _measure(self, connection: Connection) -> None:
        try:
            await connection.realpath(b".")
        except (LinkLost, RemoteError) as error:
            log.debug("no round trip: %s", error)
        finally:
            self._ping = None

    def _silence(self) -> float:
        """Seconds for which an answer is due and no byte has come on any connection."""
        due = [connection.due for connection in self._connections if connection.due is not None]
        if not due:
            return 0.0
        last = max(connection.last_received for connection in self._connections)
        return max(0.0, asyncio.get_running_loop().time() - max(last, min(due)))

    def stats(self) -> dict[str, Any]:
        """Counters for `status`."""
        totals = {
            key: gone + sum(getattr(connection, key) for connection in self._connections)
            for key, gone in self._gone.items()
        }
        return {
            "connections": len(self._connections),
            **totals,
            "rtt_ms": round(self.link.rtt * 1000, 2),
            "delay_ms": round(self.link.path.delay * 1000, 2),
            "rate_bytes_per_s": int(self.link.path.rate),
            "window": self.window,
            "in_flight": self.in_flight,
        }

    async def aclose(self) -> None:
        """Hang up."""
        self._closed = True
        self._up.set()  # wake the waiters: there will be no connection
        await self.reconnecting.aclose()
        await self._dialing.aclose()
        await self._tasks.aclose()
        for connection in list(self._connections):
            connection.close()
