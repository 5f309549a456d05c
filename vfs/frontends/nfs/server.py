"""The NFS server on a loopback port: connections, their calls in flight, and the bounds on each.

Everything runs on the event loop's thread. A connection is closed if its client takes no reply, sends half a call, or never
proves that it is allowed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import cast

from vfs.base import memory
from vfs.base.loop_time import loop_time
from vfs.base.mount_table import HOST
from vfs.frontends.nfs.programs import Client, Programs
from vfs.frontends.nfs.rpc import RecordStream, mark
from vfs.frontends.nfs.xdr import Malformed

log = logging.getLogger(__name__)

PRIVILEGED = 1024
"""Ports below are root's: a system's client that uses one is no program of another user."""
MOST_CLIENTS = 64
MOST_STRANGERS = 16
"""Connections that have not proved yet that they are allowed."""
STRANGER_SECONDS = 10.0
STALL_SECONDS = 60.0
"""How long a client may leave a call incomplete, or a reply unread."""
MOST_CALLS = 32
"""Calls of one connection under way; more are not read."""
MOST_QUEUED = memory.REPLIES
"""Bytes of replies that wait for one client; no call is begun beyond."""
_LOOK_SECONDS = 2.0


class ClientConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: NfsServer, programs: Programs) -> None:
        self._server = server
        self._programs = programs
        self._records = RecordStream()
        self._waiting: deque[bytes] = deque()
        self._calls: dict[bytes, asyncio.Task[None]] = {}
        self._transport: asyncio.Transport
        self._written = 0
        """Bytes of all replies so far."""
        self._kept: deque[tuple[int, object]] = deque()
        """What owns the memory of replies that wait for the client, each with `_written` at its end."""
        self._left = 0
        """Bytes of replies that waited at the last look."""
        self.client = Client()
        self.since = self._moved = loop_time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)
        if not self._server.admit(self, transport.get_extra_info("peername")[1]):
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._waiting.clear()
        for task in self._calls.values():
            task.cancel()
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._moved = loop_time()
        try:
            self._waiting.extend(self._records.feed(data))
        except Malformed as error:
            self.close(str(error))
        self._begin()

    def resume_writing(self) -> None:
        """The client has taken all replies."""
        self._begin()

    def _begin(self) -> None:
        """Begin the calls that are there, as far as the bounds allow, and read on if there is room for more."""
        queued = self._transport.get_write_buffer_size()
        while self._kept and self._kept[0][0] <= self._written - queued:
            self._kept.popleft()
        while self._waiting and len(self._calls) < MOST_CALLS and queued < MOST_QUEUED:
            record = self._waiting.popleft()
            if record[:4] not in self._calls:  # a client that is in doubt sends a call once more
                self._calls[record[:4]] = asyncio.ensure_future(self._answer(record))
        if self._waiting:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def _answer(self, record: bytes) -> None:
        try:
            reply = await self._programs.answer(record, self.client)
        except Malformed as error:
            self.close(str(error))
            return
        finally:
            del self._calls[record[:4]]
        if not self._transport.is_closing():
            if not self._transport.get_write_buffer_size():
                self._moved = loop_time()
            head = mark(len(reply))
            self._transport.write(head + reply.data)
            for piece in reply.pieces:
                self._transport.write(piece)
            self._written += len(head) + len(reply)
            self._kept.append((self._written, reply.keep))
            self._begin()

    def overdue(self) -> str:
        """Why the connection should be closed; empty if it should not."""
        now, left = loop_time(), self._transport.get_write_buffer_size()
        if left != self._left:
            self._left, self._moved = left, now
        if not self.client.trusted and now - self.since > STRANGER_SECONDS:
            return "it has not proved that it is allowed"
        if (left or self._records.partial) and now - self._moved > STALL_SECONDS:
            return "it stalls"
        return ""

    def close(self, why: str) -> None:
        """End it, with the calls in flight."""
        log.info("closing a connection: %s", why)
        self._waiting.clear()
        self._transport.abort()


class NfsServer:
    """Listens on a loopback port of the system's choice from `start` to `close`.

    `privileged`: refuse clients whose port is one that any user may have.
    """

    def __init__(self, programs: Programs, *, privileged: bool) -> None:
        self.programs = programs
        self._privileged = privileged
        self.connections: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = 0

    @property
    def clients(self) -> int:
        """Connections that have proved that they are allowed."""
        return sum(connection.client.trusted for connection in self.connections)

    async def start(self) -> None:
        """Raises OSError when there is no port."""
        sock = socket.create_server((HOST, 0), backlog=32)
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self, self.programs), sock=sock)
        self._timer = loop.call_later(_LOOK_SECONDS, self._look)

    def admit(self, connection: ClientConnection, port: int) -> bool:
        """Whether a client that comes from this port may go on."""
        if self._privileged and port >= PRIVILEGED:
            log.warning("a program that is not the system's NFS client was refused (port %d)", port)
            return False
        strangers = len(self.connections) - self.clients
        if strangers >= MOST_STRANGERS or len(self.connections) >= MOST_CLIENTS:
            return False
        self.connections.add(connection)
        return True

    def _look(self) -> None:
        """Close what is overdue."""
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        for connection in list(self.connections):
            if why := connection.overdue():
                connection.close(why)

    def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close("the mount ends")
