"""A server, a link that can be broken, and a mount over both: what the tests of trouble need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.mounted import Mounted, settle
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

TIMEOUT = 2
"""Seconds: `--timeout` of the mounts here, so that the tests are short."""
SLACK = 2.0
"""Seconds by which a busy machine may be late."""


class World:
    """`with World(tmp_path) as world:` has `world.root` of a real sshd mounted at `world.path`, through a relay.

    `extra`: lines of the server's sshd_config; `options` of `artisync mount`.
    """

    def __init__(
        self,
        place: Path,
        *options: str,
        timeout: int = TIMEOUT,
        transport: str = "paramiko",
        extra: Sequence[str] = (),
        rtt_ms: float = 0,
        rate_mbit: float = 0,
    ) -> None:
        self.root = place / "artifacts"
        self.root.mkdir()
        self._place = place
        self._options = ["--timeout", str(timeout), "--transport", transport, *options]
        self._link = rtt_ms, rate_mbit
        self._extra = extra
        self._stack = contextlib.ExitStack()

    def file(self, name: str, size: int = 100_000) -> bytes:
        """Make a file on the server that nobody is writing any more; what is in it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = random.Random(name).randbytes(size)
        path.write_bytes(content)
        settle(path)
        return content

    def status(self) -> dict[str, Any]:
        """What `artisync status` says of the mount."""
        answer = json.loads(self.mounted.artisync("status", "--json", str(self.path)).stdout)
        mount: dict[str, Any] = answer["mounts"][0]
        return mount

    @property
    def pid(self) -> int:
        """The mount's process."""
        return int(self.status()["pid"])

    @property
    def log(self) -> str:
        return self.mounted.log.read_text()

    def __enter__(self) -> World:
        with contextlib.ExitStack() as stack:
            self.sshd = stack.enter_context(Sshd(extra=self._extra))
            self.relay = stack.enter_context(Relay(self.sshd.port, *self._link))
            self.mounted = Mounted(self.sshd, self.root, self._place, *self._options, port=self.relay.port)
            self.path = stack.enter_context(self.mounted)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def read(path: Path) -> bytes:
    """The whole file, not from the kernel's page cache."""
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def digest(path: Path) -> str:
    """The SHA-256 of a file, read as programs do."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def failure(path: Path) -> tuple[int, float]:
    """The errno with which reading fails, and the seconds that it takes. 0 for no failure."""
    began = time.monotonic()
    try:
        read(path)
    except OSError as error:
        return error.errno or 0, time.monotonic() - began
    return 0, time.monotonic() - began
