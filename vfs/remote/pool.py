"""The server over as many connections as help: `Pool` is the `Remote` that everything above uses.

Owned by the event loop's thread; there are no locks. Dialling runs on threads of its own, which end by themselves. A
request goes to the connection with the least under way; over a lost link it is asked again on the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from vfs.errors import (
    ArtisyncError,
    ConnectError,
    LinkLost,
    NoAnswer,
    ProtocolViolation,
    ServerFailure,
    Unreachable,
)
from vfs.remote.api import Attributes, DirEntry, FsStats
from vfs.remote.link import Link, backoff
from vfs.remote.listing import scandir
from vfs.remote.sftp import Connection, seen
from vfs.remote.transport import Dialer, Transport

log = logging.getLogger(__name__)
T = TypeVar("T")

MIB = 1 << 20
NEAR = 0.003
"""Round trips (seconds) below which a second connection does not help."""
DIAL_SECONDS = 10.0
"""The most that one attempt to connect may take, so that a link that comes back is noticed."""
REFUSED_SECONDS = 60.0
"""How long no further connection is tried after the server refused one."""
MOST_WINDOW = 48 * MIB


class Pool:
    """`api.Remote` over SFTP connections that `dialer` makes. `timeout`: seconds, as `--timeout`."""

    def __init__(self, dialer: Dialer, timeout: float) -> None:
        self.timeout = timeout
        self.link: Link = _PoolLink(self)
        self.last_error: ArtisyncError | None = None
        self._dialer = dialer
        self._connections: list[Connection] = []
        self._dialing = 0
        self._no_more_until = 0.0
        self._attempts = 0
        self._up = asyncio.Event()
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False
        self._gone = {"bytes_received": 0, "bytes_sent": 0, "requests": 0}

    # --- connections --------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Make the first connection. Raises ConnectError; reconnecting goes on in the background then."""
        try:
            await self._dial(self._dialer, min(self.timeout, DIAL_SECONDS))
        except LinkLost as error:
            self.last_error = ConnectError(str(error))
            self._reconnect()
            raise self.last_error from error
        except ConnectError as error:
            self.last_error = error
            self._reconnect()
            raise

    async def move(self, dialer: Dialer) -> None:
        """Go over to another address of the same files. Raises ConnectError; the old one is kept then."""
        before = list(self._connections)
        try:
            await self._dial(dialer, min(self.timeout, DIAL_SECONDS))
        except LinkLost as error:
            raise ConnectError(str(error)) from error
        self._dialer, self._no_more_until = dialer, 0.0
        for connection in before:
            connection.close()

    async def _dial(self, dialer: Dialer, timeout: float) -> None:
        transport = await _in_thread(lambda: dialer.dial(timeout))
        connection = Connection(transport, self._lost)
        try:
            async with asyncio.timeout(timeout):
                await connection.start()
        except TimeoutError as error:
            connection.close()
            raise NoAnswer("the server does not answer the SFTP greeting") from error
        except ServerFailure as error:
            connection.close()
            raise ConnectError(str(error)) from error
        if self._closed:
            connection.close()
            return
        self.link.saw_clock(connection.server_clock)
        self.link.saw_rtt(connection.rtt)
        self._connections.append(connection)
        self._attempts = 0
        self.last_error = None
        self.link.changed(online=True)
        self._up.set()

    def _lost(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            for key in self._gone:
                self._gone[key] += getattr(connection, key)
        if not self._connections and not self._closed:
            self._up.clear()
            self.link.changed(online=False)
            self._reconnect()

    def _reconnect(self) -> None:
        if self._closed or (self._reconnecting is not None and not self._reconnecting.done()):
            return
        self._reconnecting = asyncio.ensure_future(self._keep_trying())

    async def _keep_trying(self) -> None:
        while not self._connections and not self._closed:
            if self._attempts:
                await asyncio.sleep(backoff(self._attempts - 1, random.random()))
            self._attempts += 1
            try:
                await self._dial(self._dialer, min(self.timeout, DIAL_SECONDS / 2))
            except (ConnectError, LinkLost) as error:
                self.last_error = error
                log.info("cannot connect: %s", error)

    def backlog(self, waiting: int) -> None:
        """Open more connections if what waits would fill them."""
        now = asyncio.get_running_loop().time()
        if not self._connections or self.link.rtt < NEAR or now < self._no_more_until or self._closed:
            return
        share, most = (3 * MIB // 2, 8) if self._dialer.window_limited else (5 * MIB, 4)
        wanted = min(most, -(-min(self.window, self.in_flight + waiting) // share))
        for _ in range(wanted - len(self._connections) - self._dialing):
            self._dialing += 1
            asyncio.ensure_future(self._one_more()).add_done_callback(seen)

    async def _one_more(self) -> None:
        try:
            await self._dial(self._dialer, DIAL_SECONDS)
        except (ConnectError, LinkLost) as error:
            log.info("the server takes no further connection: %s", error)
            self._no_more_until = asyncio.get_running_loop().time() + REFUSED_SECONDS
        finally:
            self._dialing -= 1

    @property
    def alive(self) -> list[Connection]:
        """The connections on which requests can be sent."""
        return [connection for connection in self._connections if connection.alive]

    async def connection(self) -> Connection:
        """A live connection, the one with the least under way. Raises Unreachable when there is none for too long."""
        while True:
            alive = self.alive
            if alive:
                return min(alive, key=lambda connection: connection.in_flight)
            left = self.link.since + self.timeout - asyncio.get_running_loop().time()
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

    async def _ask(
        self,
        question: Callable[[Connection], Awaitable[T]],
        choose: Callable[[Connection], Connection] | None = None,
    ) -> T:
        violations = 0
        while True:
            connection = await self.connection()
            if choose is not None:
                connection = choose(connection)
            try:
                return await question(connection)
            except ProtocolViolation as error:
                violations += 1
                if violations > 2:
                    raise ServerFailure(f"the server does not keep to SFTP: {error}") from error
            except LinkLost as error:
                log.debug("asked again: %s", error)

    # --- Remote ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Bytes of reads asked for and not yet answered."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def window(self) -> int:
        """Bytes of reads that are useful under way: a good part more than bandwidth × delay."""
        rtt = self.link.rtt
        if rtt < NEAR:
            return 6 * MIB
        return int(min(MOST_WINDOW, max(16 * MIB, 1.6 * self.link.rate * rtt + 2 * MIB)))

    async def lstat(self, path: bytes) -> Attributes:
        return await self._ask(lambda connection: connection.lstat(path))

    async def stat(self, path: bytes) -> Attributes:
        return await self._ask(lambda connection: connection.stat(path))

    async def readlink(self, path: bytes) -> bytes:
        return await self._ask(lambda connection: connection.readlink(path))

    async def realpath(self, path: bytes) -> bytes:
        return await self._ask(lambda connection: connection.realpath(path))

    async def scandir(self, path: bytes) -> list[DirEntry]:
        return await self._ask(lambda connection: scandir(connection, path))

    async def statvfs(self, path: bytes) -> FsStats | None:
        return await self._ask(lambda connection: connection.statvfs(path))

    async def open(self, path: bytes) -> PoolFile:
        file = PoolFile(self, path)
        await self._ask(file.open_on)
        return file

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
            "rate_bytes_per_s": int(self.link.rate),
        }

    async def aclose(self) -> None:
        """Hang up."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()


class PoolFile:
    """`api.RemoteFile`: a path, with a handle on each connection that was used for it."""

    def __init__(self, pool: Pool, path: bytes) -> None:
        self.path = path
        self.attributes = Attributes(0)
        self._pool = pool
        self._handles: dict[Connection, asyncio.Future[bytes]] = {}
        self._reading = 0
        self._closed = False

    async def open_on(self, connection: Connection) -> None:
        """Open it on a connection; STAT goes out with OPEN, so that its attributes cost no round trip of their own."""
        handle = self._handle(connection)
        self.attributes = (await asyncio.gather(handle, connection.stat(self.path)))[1]

    def _handle(self, connection: Connection) -> asyncio.Future[bytes]:
        handle = self._handles.get(connection)
        if handle is None or (handle.done() and (handle.cancelled() or handle.exception() is not None)):
            handle = self._handles[connection] = connection.open(self.path)
            handle.add_done_callback(seen)
        return handle

    async def read(self, offset: int, into: memoryview) -> tuple[int, Attributes]:
        """See `api.RemoteFile`."""
        self._reading += 1
        try:
            return await self._pool._ask(
                lambda connection: self._read(connection, offset, into), self._with_handle
            )
        finally:
            self._reading -= 1
            if self._closed and not self._reading:
                self._close_handles()

    def _with_handle(self, best: Connection) -> Connection:
        """`best`, or while the file is only being opened there, the best connection on which it is open."""
        if self._handle(best).done():
            return best
        ready = [one for one in self._pool.alive if one in self._handles and self._handles[one].done()]
        return min(ready, key=lambda connection: connection.in_flight, default=best)

    async def _read(self, connection: Connection, offset: int, into: memoryview) -> tuple[int, Attributes]:
        link = self._pool.link
        handle = self._handle(connection)
        value = handle.result() if handle.done() else await asyncio.shield(handle)
        began, delivered = asyncio.get_running_loop().time(), link.delivered
        count, attributes = await asyncio.shield(connection.read(value, offset, into, self.path))
        link.sample(count, began, delivered)
        link.saw_rtt(connection.rtt)
        return count, attributes

    def close(self) -> None:
        """See `api.RemoteFile`."""
        self._closed = True
        if not self._reading:
            self._close_handles()

    def _close_handles(self) -> None:
        handles, self._handles = self._handles, {}
        for connection, handle in handles.items():  # one that is still being opened is closed when it comes
            handle.add_done_callback(partial(_close_handle, connection))


class _PoolLink(Link):
    """The link of a pool: its silence is that of all connections together."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        super().__init__()

    @property
    def silence(self) -> float:
        silences = [connection.silence for connection in self._pool._connections]
        return min((one for one in silences if one > 0), default=0.0) if silences else 0.0


def _close_handle(connection: Connection, handle: asyncio.Future[bytes]) -> None:
    if not handle.cancelled() and handle.exception() is None and connection.alive:
        connection.close_handle(handle.result())


async def _in_thread(work: Callable[[], Transport]) -> Transport:
    """The result of blocking `work`, on a thread that nobody waits for at exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Transport] = loop.create_future()

    def deliver(transport: Transport | None, error: Exception | None) -> None:
        if future.cancelled() or future.done():
            if transport is not None:
                transport.close()
        elif transport is not None:
            future.set_result(transport)
        else:
            future.set_exception(error or ConnectError("no connection"))

    def run() -> None:
        transport, failure = None, None
        try:
            transport = work()
        except ArtisyncError as error:
            failure = error
        except OSError as error:
            failure = ConnectError(str(error))
        try:
            loop.call_soon_threadsafe(deliver, transport, failure)
        except RuntimeError:
            if transport is not None:
                transport.close()

    threading.Thread(target=run, name="connector", daemon=True).start()
    return await future
