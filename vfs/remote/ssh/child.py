"""A helper process of a connection: `ssh`, or a ProxyCommand. Its stderr is kept, and it is reaped.

Threads: per process one that reads its stderr and one that reaps it; both end with the process. `close` may
be called from any thread. `_lock` guards `_tail` only and is a leaf.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence

_KEPT = 16 * 1024
"""Bytes of the latest stderr that are kept."""

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class Child:
    """A process in a session of its own, so that Ctrl-C in our terminal does not reach it."""

    def __init__(
        self, argv: Sequence[str], *, stdin: int, stdout: int, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it; `stdin` and `stdout` as for `subprocess.Popen`. Raises OSError, RuntimeError without threads."""
        # A socket rather than a pipe, since `shutdown` wakes the thread that reads it.
        self._stderr, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=theirs.fileno(),
                env=env,
                bufsize=0,
                start_new_session=True,
            )
        except OSError:
            self._stderr.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._lock = threading.Lock()
        self._tail = b""
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"stderr of {self.pid}", daemon=True)
        reaper = threading.Thread(target=self._reap, name=f"end of {self.pid}", daemon=True)
        try:
            self._reader.start()
            reaper.start()
        except RuntimeError:  # no thread can be started
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._stderr.shutdown(socket.SHUT_RD)
            if self._reader.ident is not None:
                self._reader.join()
            self._stderr.close()
            raise

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True once it has ended and its stderr is read to the end."""
        return self._ended.wait(timeout)

    def words(self) -> str:
        """The end of its stderr, up to 16 KiB."""
        with self._lock:
            return self._tail.decode("utf-8", "replace")

    def close(self) -> None:
        """End it and its children: SIGTERM, and SIGKILL after a second. Idempotent; does not block."""
        if self._ended.is_set():
            return
        self._signal(signal.SIGTERM)
        killer = threading.Thread(target=self._kill, name=f"grace of {self.pid}", daemon=True)
        try:
            killer.start()
        except RuntimeError:  # no thread to wait on
            self._signal(signal.SIGKILL)

    def _kill(self) -> None:
        if not self._ended.wait(_GRACE):
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # After it was reaped, its pid may be another process's.
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def _read(self) -> None:
        while True:
            try:
                chunk = self._stderr.recv(4096)
            except OSError:
                return
            if not chunk:
                return
            with self._lock:
                self._tail = (self._tail + chunk)[-_KEPT:]

    def _reap(self) -> None:
        self._process.wait()
        # Another process may hold the other end for ever: a ControlPersist master.
        self._stderr.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._stderr.close()
        self._ended.set()
