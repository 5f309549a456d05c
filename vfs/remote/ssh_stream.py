"""An SFTP stream over a paramiko channel, and all that must be closed with it.

Threads: as `Transport` says. `Chunks` has paramiko's own lock, a leaf, between its thread and our reader.
"""

from __future__ import annotations

import socket
from collections import deque

import paramiko
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from vfs import errors
from vfs.remote.child import Child
from vfs.remote.ssh_words import NOT_BEGUN

WINDOW = 64 << 20
"""Bytes that the server may send ahead of our reading: 100 ms of 5 Gbit/s."""

PACKET = 256 << 10
"""Largest packet that the server may send; OpenSSH itself makes none that are larger."""

IDLE_POLL = 5.0
"""Seconds between looks of paramiko's thread at an idle socket; as it comes, it wakes ten times a second."""


class Chunks(BufferedPipe):  # type: ignore[type-arg]
    """What has come and is not read yet, as it came: paramiko's own moves the rest up after every read."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: deque[memoryview] = deque()

    def feed(self, data: bytes) -> None:
        with self._cv:  # type: ignore[attr-defined]
            if data:
                self._chunks.append(memoryview(data))
            self._cv.notify_all()  # type: ignore[attr-defined]

    def read_ready(self) -> bool:
        return len(self._chunks) > 0

    def read(self, nbytes: int, timeout: float | None = None) -> memoryview | bytes:
        """At most `nbytes`, at least one unless the pipe is closed."""
        with self._cv:  # type: ignore[attr-defined]
            while not self._chunks:
                if self._closed:  # type: ignore[attr-defined]
                    return b""
                if not self._cv.wait(timeout):  # type: ignore[attr-defined]
                    raise PipeTimeout
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
        self.sessions: list[paramiko.Transport] = []
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
        for sock in self.sockets:
            sock.close()


class ChannelStream:
    """A `Transport` over a channel with the SFTP subsystem at its other end."""

    error: errors.ConnectError | None = None
    """Why the stream ended before the server's first byte; set when `recv_into` gives 0, else None."""

    def __init__(self, channel: paramiko.Channel, way: Way, place: str) -> None:
        self._channel = channel
        self._way = way
        self._place = place
        self._begun = False
        self._closed = False

    def recv_into(self, view: memoryview) -> int:
        try:
            data = self._channel.recv(len(view))
        except (OSError, EOFError, paramiko.SSHException):
            data = b""
        count = len(data)
        view[:count] = data
        if not self._begun:
            self._begun = True
            if count == 0 and not self._closed:
                self.error = errors.NoSftp(f"{self._place}: {NOT_BEGUN}")
        return count

    def send(self, data: bytes | memoryview) -> None:
        try:
            self._channel.sendall(bytes(data))
        except paramiko.SSHException as e:
            raise OSError(str(e)) from e

    def close(self) -> None:
        self._closed = True
        self._way.close()
