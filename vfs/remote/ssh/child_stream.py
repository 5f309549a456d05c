"""An SFTP stream over the socket that is stdin and stdout of a running `ssh`.

Threads: as for `Transport`.
"""

from __future__ import annotations

import os
import select

from vfs.remote.ssh.child import Child
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.transport import Sink

TURNS = 4
"""How often the socket is read before the event loop looks after others; once gives about 256 KiB."""


class ChildStream:
    """A `Transport` over the socket of `ssh -s … sftp`."""

    def __init__(self, child: Child) -> None:
        self.close = child.close
        self._socket = child.socket
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """As `Transport.receive`."""

        def take() -> bool:
            try:
                for _ in range(TURNS):
                    buffers = sink.get_buffers()
                    count = os.readv(self._fd, buffers)
                    if not count:
                        sink.over()
                        return False
                    sink.received(count)
                    if count < len(buffers[0]):  # no more has come
                        break
            except BlockingIOError:
                pass
            except OSError:  # as ConnectionResetError: ssh ended, and had not read all
                sink.over()
                return False
            return True

        reader.start(self._fd, take)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)  # `close` ends the stream first, which wakes this
                poll.poll()

    def send_now(self, data: bytes) -> int:
        """As `Transport.send_now`."""
        try:
            return self._socket.send(data)
        except OSError:  # there is no room, or `send` finds out why
            return 0
