"""An SFTP stream over a paramiko channel, with the sessions and sockets below it.

Threads: as for `Transport`. `Chunks` is shared by paramiko's thread and our reader, under paramiko's own lock, a leaf.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import paramiko
from paramiko import Message
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from vfs.remote.ssh.child import Child
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.paramiko_packets import CHANNEL_DATA, CHANNEL_DATA_HEAD, Packets
from vfs.remote.ssh.paramiko_session import WINDOW, Session
from vfs.remote.ssh.transport import AT_ONCE, Sink

ACKNOWLEDGED = 16 << 20
"""Bytes received before the window is opened by as many (WINDOW_ADJUST): what is in flight fits into the rest."""

IDLE_POLL = 5.0
"""Timeout of the socket, in seconds: how often paramiko's thread wakes on an idle link. paramiko's default is 0.1."""


class Chunks(BufferedPipe):  # type: ignore[type-arg]
    """A channel's received data: queued until there is a sink, then given to it at once, on paramiko's thread.

    The sink saves a copy and the wake-up of a thread for each packet; a mebibyte has thirty of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._chunks: deque[memoryview] = deque()
        self._sink: Callable[[Sequence[memoryview]], None] | None = None
        self._busy = False
        self._taken = 0

    def begin(self, timeout: float) -> bool:
        """Wait for the first data; False where none has come before the end, or within `timeout` seconds."""
        with self._cv:  # type: ignore[attr-defined]
            self._cv.wait_for(lambda: self._chunks or self._closed, timeout)  # type: ignore[attr-defined]
            return bool(self._chunks)

    def hand_to(self, sink: Callable[[Sequence[memoryview]], None]) -> None:
        """Call `sink` with all data from now on; what is queued goes first, from this thread."""
        while True:
            with self._cv:  # type: ignore[attr-defined]
                if not self._chunks:
                    self._sink = sink
                    return
                waiting = self._chunks.popleft()
                self._taken += len(waiting)
            sink([waiting])

    def let_go(self) -> None:
        """Return once `sink` has returned, and will not be called again."""
        with self._cv:  # type: ignore[attr-defined]
            self._sink = None
            while self._busy:
                self._cv.wait()  # type: ignore[attr-defined]

    def feed(self, data: bytes | memoryview) -> None:
        with self._cv:  # type: ignore[attr-defined]
            if self._sink is None:
                if data:
                    self._chunks.append(memoryview(data))
                self._cv.notify_all()  # type: ignore[attr-defined]
                return
        self.give([memoryview(data)])

    def give(self, data: Sequence[memoryview]) -> None:
        """Call the sink, if there is one still."""
        with self._cv:  # type: ignore[attr-defined]
            sink = self._sink
            if sink is None:
                return
            self._busy = True
        sink(data)
        with self._cv:  # type: ignore[attr-defined]
            self._busy = False
            self._taken += sum(map(len, data))
            if self._taken >= ACKNOWLEDGED or self._sink is None:
                self._cv.notify_all()  # type: ignore[attr-defined]

    def read(self, nbytes: int, timeout: float | None = None) -> range:
        """range(n), n being the bytes that the sink got: `Channel.recv` only needs the length, for WINDOW_ADJUST. Empty once the
        pipe is closed."""
        with self._cv:  # type: ignore[attr-defined]
            while self._taken < ACKNOWLEDGED:
                if self._closed:  # type: ignore[attr-defined]
                    return range(0)
                if not self._cv.wait(timeout):  # type: ignore[attr-defined]
                    raise PipeTimeout
            count, self._taken = self._taken, 0
            return range(count)


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

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """As `Transport.receive`: paramiko's thread calls `sink`, or the event loop's where the packets are ours."""
        chunks = cast("Chunks", self._channel.in_buffer)
        failures: list[Exception] = []

        def give(data: Sequence[memoryview]) -> None:
            if not failures:
                try:
                    sink.feed(data)
                except Exception as failure:  # noqa: BLE001  raised below, by the thread that waits
                    failures.append(failure.with_traceback(None))
                    chunks.close()

        chunks.hand_to(give)
        packets = self._chain.sessions[-1].packetizer
        if isinstance(packets, Packets):
            packets.divert(reader, self._channel.chanid, chunks.give)
        try:
            while len(self._channel.recv(WINDOW)):
                pass
        except (OSError, EOFError, paramiko.SSHException):
            pass
        finally:
            chunks.let_go()
        if failures:
            raise failures[0]

    def send(self, data: bytes | memoryview) -> None:
        try:
            self._channel.sendall(bytes(data))
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
