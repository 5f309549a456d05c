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

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class Child:
    """A process in a session of its own, so that Ctrl-C in our terminal does not reach it. It has to be closed, by any thread."""

    def __init__(
        self, argv: Sequence[str], *, stdin: int, stdout: int, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it; `stdin` and `stdout` as for `subprocess.Popen`. Raises OSError, RuntimeError without threads."""
        self._tail = b""
        # A socket rather than a pipe, since `shutdown` wakes the thread that reads it.
        self._stderr, theirs = socket.socketpair()
        self._reader = threading.Thread(target=self._read, name=f"stderr of {argv[0]}", daemon=True)
        with theirs:
            try:
                self._reader.start()
            except RuntimeError:  # no thread can be started
                self._stderr.close()
                raise
            self._process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=theirs.fileno(), env=env, start_new_session=True
            )

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
        self._signal(signal.SIGTERM)
        if not self.wait(_GRACE):
            self._signal(signal.SIGKILL)
            self.wait(None)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # else its pid may be another process's
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _read(self) -> None:
        with self._stderr, suppress(OSError):
            while chunk := self._stderr.recv(4096):
                self._tail = (self._tail + chunk)[-_KEPT:]
