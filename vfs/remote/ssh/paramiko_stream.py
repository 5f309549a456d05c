"""An SFTP stream over a paramiko channel, with the sessions and sockets below it.

Threads: as for `Transport`. `Chunks` is shared by paramiko's thread and the event loop, under paramiko's own lock, a leaf.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import paramiko
from paramiko import Message
from paramiko.buffered_pipe import BufferedPipe

from vfs.remote.ssh.child import Child
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.paramiko_packets import CHANNEL_DATA, CHANNEL_DATA_HEAD, Packets
from vfs.remote.ssh.paramiko_session import Session
from vfs.remote.ssh.transport import AT_ONCE, Sink

ACKNOWLEDGED = 16 << 20
"""Bytes received before the window is opened by as many (WINDOW_ADJUST): what is in flight fits into the rest."""

IDLE_POLL = 5.0
"""Timeout of the socket, in seconds: how often paramiko's thread wakes on an idle link. paramiko's default is 0.1."""


class Chunks(BufferedPipe):  # type: ignore[type-arg]
    """What paramiko's thread received over a channel, for the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[memoryview] = []
        self.wake: Callable[[], None] = _nothing
        """Called by that thread when there is something to `take`."""

    def begin(self, timeout: float) -> bool:
        """Wait for the first data; False where none has come before the end, or within `timeout` seconds."""
        with self._cv:  # type: ignore[attr-defined]
            self._cv.wait_for(lambda: self._chunks or self._closed, timeout)  # type: ignore[attr-defined]
            return bool(self._chunks)

    def take(self) -> tuple[list[memoryview], bool]:
        """The data that have come and were not taken yet, and whether that was all."""
        with self._cv:  # type: ignore[attr-defined]
            chunks, self._chunks = self._chunks, []
            return chunks, self._closed  # type: ignore[attr-defined]

    def feed(self, data: bytes | memoryview) -> None:
        with self._cv:  # type: ignore[attr-defined]
            self._chunks.append(memoryview(data))
            self._cv.notify_all()  # type: ignore[attr-defined]
            first = len(self._chunks) == 1
        if first:
            self.wake()

    def close(self) -> None:
        super().close()
        self.wake()

    def read(self, nbytes: int, timeout: float | None = None) -> range:
        """`Channel.recv` only needs the length of what was taken, for WINDOW_ADJUST."""
        return range(nbytes)


class Chain:
    """The sockets, processes and SSH sessions of one stream, the nearest first."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.children: list[Child] = []
        self.sessions: list[Session] = []
        self.login = ""
        """How the last of the sessions logged in, for people."""

    def settle(self) -> None:
        """Let paramiko's threads wake less often, now that the stream is up."""
        for sock in self.sockets:
            sock.settimeout(IDLE_POLL)

    def close(self) -> None:
        """Close all of it. Idempotent; any thread."""
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

    def __init__(self, channel: paramiko.Channel, chain: Chain) -> None:
        self._channel = channel
        self._chain = chain
        self._taken = 0
        """Bytes received since the window was last opened."""

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """As `Transport.receive`. The loop receives, except for what comes through a jump host: there paramiko's thread does."""
        chunks = cast("Chunks", self._channel.in_buffer)

        def give(data: Sequence[memoryview]) -> None:
            sink.feed(data)
            self._taken += sum(map(len, data))
            if self._taken >= ACKNOWLEDGED:
                thread = threading.Thread(
                    target=self._open_window, args=(self._taken,), name="sftp window", daemon=True
                )
                with suppress(RuntimeError):  # no thread can be started: the next data tries again
                    thread.start()
                    self._taken = 0

        def pour() -> None:
            data, over = chunks.take()
            give(data)
            if over:
                chunks.wake = _nothing  # else they would be in a cycle
                sink.over()

        chunks.wake = partial(reader.call, pour)
        pour()
        if len(self._chain.sessions) == 1:
            packets, sock = cast("Packets", self._chain.sessions[0].packetizer), self._chain.sockets[0]
            packets.divert(reader, sock.fileno(), self._channel.chanid, give)

    def _open_window(self, size: int) -> None:
        """Let the server send `size` bytes more. A thread of its own, since that may have to wait."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # it has ended
            self._channel.recv(size)

    def send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except (OSError, paramiko.SSHException) as e:
            raise OSError(str(e)) from e

    def send_now(self, data: bytes) -> int:
        """As `Transport.send_now`; all or nothing, in one packet. Another thread that sends, and new keys, go first."""
        channel, session = self._channel, self._chain.sessions[-1]
        if len(data) > AT_ONCE or not session.clear_to_send_lock.acquire(blocking=False):
            return 0
        try:
            if not (session.clear_to_send.is_set() and session.is_active() and self._has_room):
                return 0
            with channel.lock:
                if channel.closed or channel.out_window_size < len(data):
                    return 0
                channel.out_window_size -= len(data)
            head = CHANNEL_DATA_HEAD.pack(CHANNEL_DATA, channel.remote_chanid, len(data))
            session.packetizer.send_message(Message(head + data))
            return len(data)
        except (OSError, EOFError, ValueError):  # the socket is closed; `send` finds out why
            return 0
        finally:
            session.clear_to_send_lock.release()

    @property
    def _has_room(self) -> bool:
        """Whether a short packet can be sent without waiting."""
        if len(self._chain.sessions) > 1:  # it goes through another session's locks
            return False
        poll = select.poll()
        poll.register(self._chain.sockets[-1], select.POLLOUT)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._chain.close()


def _nothing() -> None:
    pass
