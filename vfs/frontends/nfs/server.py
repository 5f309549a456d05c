"""The NFS server on a loopback port: connections, their calls in flight, and the bounds on each.

Everything runs on the event loop's thread. Replies are sent by `sendmsg` without a copy. A connection is closed if its client
takes no reply, sends half a call, or never proves that it is allowed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from vfs.base import memory
from vfs.frontends.mountpoint import HOST
from vfs.frontends.nfs.programs import Client, Programs, RpcReply
from vfs.frontends.nfs.rpc import RecordStream
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
_CHUNK = 256 << 10
_PIECES = 64
"""Buffers in one sendmsg: the system takes 1024 at most."""
_LOOK_SECONDS = 2.0
_PAUSE_SECONDS = 1.0


class ClientConnection:
    """One client. `closed` is called once, at the end."""

    def __init__(
        self, sock: socket.socket, programs: Programs, closed: Callable[[ClientConnection], None]
    ) -> None:
        self._sock = sock
        self._programs = programs
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._records = RecordStream()
        self._waiting: deque[bytes] = deque()
        self._calls: dict[bytes, asyncio.Task[None]] = {}
        self._out: deque[tuple[memoryview, Any]] = deque()
        self._queued = 0
        self._reading = self._writing = False
        self._open = True
        self.client = Client()
        self.since = self._moved = self._loop.time()
        self._read_on()

    # --- calls ----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._moved = self._loop.time()
        try:
            self._waiting.extend(self._records.feed(data))
        except Malformed as error:
            log.info("closing a connection: %s", error)
            self.close()
            return
        self._begin()

    def _begin(self) -> None:
        """Begin the calls that are there, as far as the bounds allow, and read on if there is room for more."""
        while self._open and self._waiting and len(self._calls) < MOST_CALLS and self._queued < MOST_QUEUED:
            record = self._waiting.popleft()
            if record[:4] not in self._calls:  # a client that is in doubt sends a call once more
                task = asyncio.ensure_future(self._answer(record))
                self._calls[record[:4]] = task
        if self._open and not self._waiting:
            self._read_on()
        elif self._reading:
            self._loop.remove_reader(self._sock)
            self._reading = False

    async def _answer(self, record: bytes) -> None:
        try:
            reply = await self._programs.answer(record, self.client)
        except Malformed as error:
            log.info("closing a connection: %s", error)
            self.close()
            return
        finally:
            del self._calls[record[:4]]
        self._send(reply)
        if self._waiting:
            self._begin()

    def _read_on(self) -> None:
        if not self._reading:
            self._loop.add_reader(self._sock, self._readable)
            self._reading = True

    # --- replies --------------------------------------------------------------------------------------------------

    def _send(self, reply: RpcReply) -> None:
        if not self._open:
            return
        if not self._queued:
            self._moved = self._loop.time()
        for buffer in reply.buffers:
            self._out.append((buffer, reply.keep))
            self._queued += len(buffer)
        if not self._writing:
            self._writable()

    def _writable(self) -> None:
        out = self._out
        while out:
            try:
                sent = self._sock.sendmsg([buffer for buffer, _ in islice(out, _PIECES)])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.close()
                return
            self._moved = self._loop.time()
            self._queued -= sent
            while sent:
                buffer, keep = out.popleft()
                if sent < len(buffer):
                    out.appendleft((buffer[sent:], keep))
                    break
                sent -= len(buffer)
        if bool(out) is not self._writing:
            self._writing = bool(out)
            if out:
                self._loop.add_writer(self._sock, self._writable)
            else:
                self._loop.remove_writer(self._sock)
        if self._waiting and self._queued < MOST_QUEUED:
            self._begin()

    # --- the end --------------------------------------------------------------------------------------------------

    def overdue(self) -> str:
        """Why the connection should be closed; empty if it should not."""
        now = self._loop.time()
        if not self.client.trusted and now - self.since > STRANGER_SECONDS:
            return "it has not proved that it is allowed"
        if (self._queued or self._records.partial) and now - self._moved > STALL_SECONDS:
            return "it stalls"
        return ""

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._reading:
            self._loop.remove_reader(self._sock)
        if self._writing:
            self._loop.remove_writer(self._sock)
        for task in self._calls.values():
            if task is not asyncio.current_task():
                task.cancel()
        self._waiting.clear()
        self._out.clear()
        self._sock.close()
        self._closed(self)


class NfsServer:
    """Listens on a loopback port of the system's choice from `start` to `close`.

    `privileged`: refuse clients whose port is one that any user may have.
    """

    def __init__(self, programs: Programs, *, privileged: bool) -> None:
        self._programs = programs
        self._privileged = privileged
        self._connections: set[ClientConnection] = set()
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = 0

    @property
    def clients(self) -> int:
        """Connections that have proved that they are allowed."""
        return sum(connection.client.trusted for connection in self._connections)

    def start(self) -> None:
        """Raises OSError when there is no port."""
        self._sock = socket.create_server((HOST, 0), backlog=32)
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock, self._accept)
        self._timer = loop.call_later(_LOOK_SECONDS, self._look)

    def _accept(self) -> None:
        assert self._sock is not None
        try:
            sock, (_, port) = self._sock.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._pause()
            return
        strangers = len(self._connections) - self.clients
        if self._privileged and port >= PRIVILEGED:
            log.warning("a program that is not the system's NFS client was refused (port %d)", port)
        elif strangers < MOST_STRANGERS and len(self._connections) < MOST_CLIENTS:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(ClientConnection(sock, self._programs, self._connections.discard))
            return
        sock.close()

    def _pause(self) -> None:
        """No descriptor is left: accept again a little later. Until then the socket would stay readable."""
        loop = asyncio.get_running_loop()
        sock = self._sock
        assert sock is not None
        loop.remove_reader(sock)
        loop.call_later(_PAUSE_SECONDS, lambda: self._sock and loop.add_reader(sock, self._accept))

    def _look(self) -> None:
        """Close what is overdue."""
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        for connection in list(self._connections):
            if why := connection.overdue():
                log.info("closing a connection: %s", why)
                connection.close()

    def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        for connection in list(self._connections):
            connection.close()
