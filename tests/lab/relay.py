"""A TCP relay that makes loopback behave like a wide-area link: delay, shared rate, window, and trouble on command.

It is a process of its own (`relay_process.py`), so that the tests' interpreter lock does not limit it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

WINDOW = 6 << 20


class Relay:
    """A relay in front of 127.0.0.1:`target_port`, as a context manager.

    `rtt_ms`: milliseconds of delay there and back; `rate_mbit`: 10^6 bit/s in each direction, 0 for no limit; `window`:
    bytes of one connection that may be under way in a direction. May be used from any thread.
    """

    def __init__(
        self, target_port: int, rtt_ms: float = 0, rate_mbit: float = 0, window: int = WINDOW
    ) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("relay_process.py")),
                str(target_port),
                str(rtt_ms),
                str(rate_mbit),
                str(window),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port: int = self._read()["port"]
        """Where the relay listens."""

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the relay and every connection through it. Idempotent."""
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(10)
            self._process.stdout.close()

    def bytes_down(self) -> int:
        """Bytes delivered from the target to clients so far."""
        return int(self._ask("stats")["down"])

    def bytes_up(self) -> int:
        """Bytes delivered from clients to the target so far."""
        return int(self._ask("stats")["up"])

    def connections(self) -> int:
        """Connections accepted so far."""
        return int(self._ask("stats")["accepted"])

    def open_connections(self) -> int:
        """Connections that are open now."""
        return int(self._ask("stats")["open"])

    def blackhole(self, on: bool = True) -> None:
        """Let nothing through and keep every socket open, new ones too, until switched off."""
        self._ask(f"blackhole {on:d}")

    def refuse(self, on: bool = True) -> None:
        """Refuse new connections (ECONNREFUSED), until switched off; those that are open go on."""
        self._ask(f"refuse {on:d}")

    def reset(self) -> None:
        """Reset every connection now, both ends (ECONNRESET)."""
        self._ask("reset")

    def slow(self, rate_mbit: float) -> None:
        """Change the rate of both directions for what is read from now on; 0 for no limit."""
        self._ask(f"slow {rate_mbit}")

    def delay(self, rtt_ms: float) -> None:
        """Change the delay for what is read from now on."""
        self._ask(f"delay {rtt_ms}")

    def behind(self) -> float:
        """Seconds until all that has been read so far is delivered, beyond the delay of the way."""
        return float(self._ask("stats")["behind"])

    def _ask(self, command: str) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay ended with status {self._process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        return answer
