"""A helper process of a connection: `ssh`, or a ProxyCommand. Its stderr is kept.

Threads: one per process reads its stderr; it ends with the process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

_KEPT = 16 * 1024
"""Bytes of the latest stderr that are kept."""

ROOM = 1 << 20
"""Bytes that it may write ahead of our reading; the system gives less (/proc/sys/net/core/wmem_max)."""

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class Child:
    """A process in a session of its own, so that Ctrl-C in our terminal does not reach it. It has to be closed, by any thread."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start it. Raises OSError, RuntimeError without threads."""
        self._tail = b""
        self._reader = threading.Thread(target=self._read, name=f"stderr of {argv[0]}", daemon=True)
        # Sockets rather than pipes: they take the kernel less to pass much data, and `shutdown` wakes the threads that wait.
        self.socket, theirs = socket.socketpair()
        """The other end of its stdin and stdout."""
        self._stderr, stderr = socket.socketpair()
        with suppress(OSError):  # macOS refuses more than its own bound
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        try:
            with theirs, stderr:
                self._reader.start()
                its = theirs.fileno()
                self._process = subprocess.Popen(
                    argv, stdin=its, stdout=its, stderr=stderr.fileno(), env=env, start_new_session=True
                )
        except BaseException:
            self.socket.close()
            if self._reader.ident is None:  # no thread can be started
                self._stderr.close()
            raise

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it is not known to have ended."""
        return self._process.returncode

    def wait(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds; True once it has ended and its stderr is read to the end."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        with suppress(OSError):  # another process may hold the other end for ever: a ControlPersist master
            self._stderr.shutdown(socket.SHUT_RD)
        self._reader.join()
        return True

    def words(self) -> str:
        """The end of its stderr, up to 16 KiB."""
        return self._tail.decode("utf-8", "replace")

    def close(self) -> None:
        """End it and its children: SIGTERM, and SIGKILL after a second. Idempotent."""
        with suppress(OSError):  # it has ended, or this is closed
            self.socket.shutdown(socket.SHUT_RDWR)
        self._signal(signal.SIGTERM)
        if not self.wait(_GRACE):
            self._signal(signal.SIGKILL)
            self.wait(None)
        self.socket.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # else its pid may be another process's
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _read(self) -> None:
        with self._stderr, suppress(OSError):
            while chunk := self._stderr.recv(4096):
                self._tail = (self._tail + chunk)[-_KEPT:]
