"""An SFTP stream through the pipes of a running `ssh`.

Threads: as for `Transport`. `_lock` guards `_users` and `_closed` and is a leaf. The last thread to use the pipes closes
them, so that no thread reads from a descriptor that is another file by then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import threading
from collections.abc import Callable, Sequence

from vfs.base import errors
from vfs.remote.ssh.askpass import Askpass
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import Sink

PIPE_SIZE = 1 << 20
"""Bytes; what an ordinary user may ask for (/proc/sys/fs/pipe-max-size)."""

TURNS = 4
"""How often the pipe is read before the event loop looks after others; once gives about 256 KiB."""

_LAST_WORDS = 1.0
"""Seconds that ssh has to exit after it closed its output."""


class PipeStream:
    """A `Transport` over the stdin and stdout of `ssh -s … sftp`."""

    error: errors.ConnectError | None = None
    """Why the stream ended before the server's first byte; set when `recv_into` gives 0, else None."""

    def __init__(
        self,
        child: Child,
        place: str,
        deadline: Deadline,
        explain: Callable[[str], errors.ConnectError],
        askpass: Askpass | None,
    ) -> None:
        """The server's first byte must come before `deadline`. `explain` makes an error of what ssh said."""
        assert child.stdin is not None
        assert child.stdout is not None
        self._child = child
        self._place = place
        self._deadline = deadline
        self._explain = explain
        self._askpass = askpass
        self._input = child.stdout.fileno()
        self._output = child.stdin.fileno()
        self._end, self._ending = os.pipe()
        """A pipe with something to read once the stream is closed: it wakes the threads that wait."""
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._begun = False
        for fd in (self._input, self._output):
            os.set_blocking(fd, False)
            try:
                if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:
                # The user's allowance for pipes is used up: this one keeps its size.
                pass

    def recv_into(self, views: Sequence[memoryview]) -> int:
        if not self._enter():
            return 0
        try:
            while True:
                try:
                    count = os.readv(self._input, views)
                except BlockingIOError:
                    if self._ready(self._input, select.POLLIN):
                        continue
                    return 0
                except OSError:
                    count = 0
                if not self._begun:
                    self._first(count)
                return count
        finally:
            self._leave()

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """As `transport.receive`: this thread waits for the server's first bytes, the event loop receives the others."""
        count = self.recv_into(sink.get_buffers())
        if not count:
            return
        sink.received(count)
        if not self._enter():
            return
        failures: list[Exception] = []

        def take() -> bool:
            try:
                for _ in range(TURNS):
                    count = os.readv(self._input, sink.get_buffers())
                    if not count:
                        reader.stop()
                        return False
                    sink.received(count)
            except BlockingIOError:
                pass
            except Exception as failure:  # noqa: BLE001  raised below, by the thread that waits
                failures.append(failure.with_traceback(None))
                reader.stop()
                return False
            return True

        try:
            reader.start(self._input, take)
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
                    rest = rest[os.write(self._output, rest) :]
                except BlockingIOError:
                    if not self._ready(self._output, select.POLLOUT):
                        raise OSError(errno.EPIPE, "the stream is closed") from None
                except BrokenPipeError:
                    if self._begun:
                        raise
                    # ssh ended before the login: `recv_into` ends as well, and sets `error`.
                    return
        finally:
            self._leave()

    def send_now(self, data: bytes) -> bool:
        """As `Transport.send_now`: a pipe takes so little as a whole, or not at all (pipe(7))."""
        if len(data) > select.PIPE_BUF or not self._enter():
            return False
        try:
            return os.write(self._output, data) == len(data)
        except OSError:
            return False
        finally:
            self._leave()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._users += 1  # nobody else may release the pipes before this is done
        os.write(self._ending, b"\0")
        self._child.close()
        self._leave()

    def _ready(self, fd: int, event: int) -> bool:
        """Wait for `fd`; False when the stream is closed, or the server's first byte is late."""
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self._end, select.POLLIN)
        while True:
            # At least 50 ms: while a person is asked, the deadline may stand still just before its end.
            patience = None if self._begun else max(self._deadline.left * 1000, 50)
            ready = poll.poll(patience)
            if any(number == self._end for number, _ in ready):
                return False
            if ready:
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
        """Close the pipes, which no thread uses any more."""
        for file in (self._child.stdin, self._child.stdout):
            if file is not None:
                file.close()
        os.close(self._end)
        os.close(self._ending)
        if self._askpass is not None:
            self._askpass.close()
            self._askpass = None
