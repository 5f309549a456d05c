"""An SFTP stream over the socket that is stdin and stdout of a running `ssh`.

A socket rather than two pipes: it takes the kernel less to pass much data through it, and `shutdown` wakes the threads that wait.

Threads: as for `Transport`. `_lock` guards `_users` and `_closed` and is a leaf. The last thread to use the socket closes
it, so that no thread reads from a descriptor that is another file by then.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from vfs.base import errors
from vfs.remote.ssh.askpass import Askpass
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import Sink

ROOM = 1 << 20
"""Bytes that ssh may write ahead of our reading; the system gives less (/proc/sys/net/core/wmem_max)."""

TURNS = 4
"""How often the socket is read before the event loop looks after others; once gives about 256 KiB."""

_LAST_WORDS = 1.0
"""Seconds that ssh has to exit after it closed its output."""


class ChildStream:
    """A `Transport` over the socket of `ssh -s … sftp`."""

    error: errors.ConnectError | None = None
    """Why the stream ended before the server's first byte; set when `receive` returns, else None."""

    def __init__(
        self,
        child: Child,
        sock: socket.socket,
        place: str,
        deadline: Deadline,
        explain: Callable[[str], errors.ConnectError],
        askpass: Askpass | None,
    ) -> None:
        """The server's first byte must come before `deadline`. `explain` makes an error of what ssh said."""
        sock.setblocking(False)
        self._child = child
        self._socket = sock
        self._fd = sock.fileno()
        self._place = place
        self._deadline = deadline
        self._explain = explain
        self._askpass = askpass
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._begun = False

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """As `Transport.receive`: this thread waits for the server's first bytes, the event loop receives the others."""
        if not self._enter():
            return
        failures: list[Exception] = []

        def take() -> bool:
            try:
                for _ in range(TURNS):
                    buffers = sink.get_buffers()
                    count = os.readv(self._fd, buffers)
                    if not count:
                        reader.stop()
                        return False
                    sink.received(count)
                    if count < len(buffers[0]):  # no more has come
                        break
            except BlockingIOError:
                pass
            except ConnectionResetError:  # ssh ended, and had not read all
                reader.stop()
                return False
            except Exception as failure:  # noqa: BLE001  raised below, by the thread that waits
                failures.append(failure.with_traceback(None))
                reader.stop()
                return False
            return True

        try:
            if self._ready(select.POLLIN):
                try:
                    count = os.readv(self._fd, sink.get_buffers())
                except ConnectionResetError:
                    count = 0
                self._first(count)
                if count:
                    sink.received(count)
                    reader.start(self._fd, take)
                    reader.wait()
        finally:
            self._leave()
        if failures:
            raise failures[0]

    def send(self, data: bytes | memoryview) -> None:
        if not self._enter():
            raise OSError(errno.EPIPE, "the stream is closed")
        try:
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    if not self._ready(select.POLLOUT):
                        raise OSError(errno.EPIPE, "the stream is closed") from None
                except BrokenPipeError:
                    if self._begun and self.error is None:
                        raise
                    return  # ssh ended before the server's first byte: `receive` says why
        finally:
            self._leave()

    def send_now(self, data: bytes) -> int:
        """As `Transport.send_now`."""
        if not self._enter():
            return 0
        try:
            return os.write(self._fd, data)
        except OSError:  # there is no room, or `send` finds out why
            return 0
        finally:
            self._leave()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._users += 1  # nobody else may close the socket before this is done
        with suppress(OSError):  # ssh has ended
            self._socket.shutdown(socket.SHUT_RDWR)
        self._child.close()
        self._leave()

    def _ready(self, event: int) -> bool:
        """Wait for the socket, or its end; False when the server's first byte is late."""
        poll = select.poll()
        poll.register(self._fd, event)
        while True:
            # At least 50 ms: while a person is asked, the deadline may stand still just before its end.
            patience = None if self._begun else max(self._deadline.left * 1000, 50)
            if poll.poll(patience):
                return True
            if not self._begun and self._deadline.passed:
                self.error = errors.NoAnswer(f"no answer from {self._place} in time")
                self.close()
                return False

    def _first(self, count: int) -> None:
        """The server's first bytes, or the end without any."""
        if count == 0 and not self._closed:
            self._child.wait(_LAST_WORDS)
            self.error = self._explain(self._child.words())
        self._begun = True
        if self._askpass is not None:
            self._askpass.close()
            self._askpass = None

    def _enter(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._users += 1
            return True

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._release()

    def _release(self) -> None:
        """Close the socket, which no thread uses any more."""
        self._socket.close()
        if self._askpass is not None:
            self._askpass.close()
            self._askpass = None
