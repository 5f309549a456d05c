"""An SFTP stream over a paramiko channel, and all that must be closed with it.

Threads: as `Transport` says. `Chunks` has paramiko's own lock, a leaf, between its thread and our reader.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import paramiko
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from vfs.base import errors
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.paramiko_packets import BufferedSocket
from vfs.remote.ssh.paramiko_session import WINDOW, Session
from vfs.remote.ssh.ssh_errors import NOT_BEGUN

ACKNOWLEDGED = 8 << 20
"""Bytes after which the server is told that they were taken: a fraction of the window."""

IDLE_POLL = 5.0
"""Seconds between looks of paramiko's thread at an idle socket; as it comes, it wakes ten times a second."""


class Chunks(BufferedPipe):  # type: ignore[type-arg]
    """What has come: kept as it came until somebody reads it, or handed on at once, in paramiko's own thread.

    The lock is paramiko's, a leaf. `hand_to` begins the handing on: it saves a copy and the waking of a thread for
    every packet, of which there are thirty a mebibyte.
    """

    def __init__(self) -> None:
        super().__init__()
        self._chunks: deque[memoryview] = deque()
        self._sink: Callable[[memoryview], None] | None = None
        self._busy = False
        self._taken = 0

    def hand_to(self, sink: Callable[[memoryview], None]) -> None:
        """From now on `sink` is called with what comes; what has come already goes first, from this thread."""
        while True:
            with self._cv:  # type: ignore[attr-defined]
                if not self._chunks:
                    self._sink = sink
                    return
                waiting = self._chunks.popleft()
                self._taken += len(waiting)
            sink(waiting)

    def let_go(self) -> None:
        """Return once `sink` is not being called, and never will be again."""
        with self._cv:  # type: ignore[attr-defined]
            self._sink = None
            while self._busy:
                self._cv.wait()  # type: ignore[attr-defined]

    def feed(self, data: bytes | memoryview) -> None:
        with self._cv:  # type: ignore[attr-defined]
            sink = self._sink
            if sink is None:
                if data:
                    self._chunks.append(memoryview(data))
                self._cv.notify_all()  # type: ignore[attr-defined]
                return
            self._busy = True
        sink(memoryview(data))
        with self._cv:  # type: ignore[attr-defined]
            self._busy = False
            self._taken += len(data)
            if self._taken >= ACKNOWLEDGED or self._sink is None:
                self._cv.notify_all()  # type: ignore[attr-defined]

    def read_ready(self) -> bool:
        return len(self._chunks) > 0

    def read(self, nbytes: int, timeout: float | None = None) -> memoryview | bytes | range:
        """At most `nbytes`, at least one unless the pipe is closed. Of what is handed on only the length, as a range:
        paramiko's `recv` uses it to open the window again."""
        with self._cv:  # type: ignore[attr-defined]
            while not self._chunks and (self._sink is None or self._taken < ACKNOWLEDGED):
                if self._closed:  # type: ignore[attr-defined]
                    return b""
                if not self._cv.wait(timeout):  # type: ignore[attr-defined]
                    raise PipeTimeout
            if self._sink is not None:
                count, self._taken = self._taken, 0
                return range(count)
            head = self._chunks[0]
            if len(head) <= nbytes:
                return self._chunks.popleft()
            self._chunks[0] = head[nbytes:]
            return head[:nbytes]

    def empty(self) -> bytes:
        with self._cv:  # type: ignore[attr-defined]
            data = b"".join(self._chunks)
            self._chunks.clear()
            return data

    def __len__(self) -> int:
        return sum(map(len, tuple(self._chunks)))


class Way:
    """The sockets, processes and SSH sessions that one stream goes through, the nearest first."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.children: list[Child] = []
        self.sessions: list[Session] = []
        self.login = ""
        """How the last of the sessions logged in, for people."""

    def settle(self) -> None:
        """The stream is made: from here on paramiko's threads need not look around so often."""
        for sock in self.sockets:
            sock.settimeout(IDLE_POLL)

    def close(self) -> None:
        """End all of it, without waiting for anybody. Idempotent; any thread."""
        # No goodbye on the channel: sending it could block for as long as the dead link lasts.
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for child in self.children:
            child.close()
        for session in self.sessions:
            # paramiko's handshake timer would otherwise keep the process from exiting.
            session.packetizer.complete_handshake()
            session.close()
            if isinstance(session.sock, BufferedSocket) and not session.is_alive():
                session.sock.let_go()
        for sock in self.sockets:
            sock.close()


class ChannelStream:
    """A `Transport` over a channel with the SFTP subsystem at its other end."""

    error: errors.ConnectError | None = None
    """Why the stream ended before the server's first byte; set when `recv_into` gives 0 or `send` fails, else None."""

    def __init__(self, channel: paramiko.Channel, way: Way, place: str) -> None:
        self._channel = channel
        self._way = way
        self._place = place
        self._begun = False
        self._closed = False

    def recv_into(self, views: Sequence[memoryview]) -> int:
        view = views[0]
        try:
            data = self._channel.recv(len(view))
        except (OSError, EOFError, paramiko.SSHException):
            data = b""
        count = len(data)
        view[:count] = data
        if not self._begun:
            self._begun = True
            if count == 0:
                self._ended_early()
        return count

    def receive(self, into: Callable[[], list[memoryview]], received: Callable[[int], None]) -> None:
        """See `transport.receive`. Both are called in paramiko's thread, and not any more once this has returned."""
        chunks = cast("Chunks", self._channel.in_buffer)
        failures: list[Exception] = []

        def sink(data: memoryview) -> None:
            self._begun = True
            while data and not failures:
                view = into()[0]
                count = min(len(view), len(data))
                view[:count] = data[:count]
                data = data[count:]
                try:
                    received(count)
                except Exception as failure:  # noqa: BLE001  raised below, by the thread that waits
                    failures.append(failure)
                    chunks.close()

        chunks.hand_to(sink)
        try:
            while len(self._channel.recv(WINDOW)):
                pass
        except (OSError, EOFError, paramiko.SSHException):
            pass
        finally:
            chunks.let_go()
        if failures:
            raise failures[0]
        if not self._begun:
            self._ended_early()

    def send(self, data: bytes | memoryview) -> None:
        try:
            self._channel.sendall(bytes(data))
        except (OSError, paramiko.SSHException) as e:
            if self._begun or self._closed:
                raise OSError(str(e)) from e
            # The server refused SFTP: who receives finds the end too, and can say why.

    def _ended_early(self) -> None:
        if self._closed:
            return
        refused = not self._channel.event_ready and self._way.sessions[-1].is_active()
        self.error = errors.NoSftp(f"{self._place} {'offers no SFTP' if refused else NOT_BEGUN}")

    def close(self) -> None:
        self._closed = True
        self._way.close()
