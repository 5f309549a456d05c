"""Commands in this process, and a server in memory that they talk to."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.memory_remote import MemoryRemote
from tests.lab.memory_tree import MemoryTree
from vfs import stack
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.cli import logs, run
from vfs.commands import cat, prefetch, pull, wait
from vfs.files import experiments
from vfs.remote.ssh import paramiko_dialer

ROOT = b"/shared/artifacts"
LOADED = (cat, experiments, prefetch, pull, paramiko_dialer, wait)
"""What commands load as they run, here before them: it takes a while."""


class Remote(MemoryRemote):
    """The server in memory, as a pool of connections."""

    last_error = None
    transport = "paramiko"

    async def connect(self, *, keep_trying: bool = True, measure: bool = False) -> None:
        self.keep_trying = keep_trying

    def stats(self) -> dict[str, Any]:
        return {}


@dataclass
class Said:
    code: int
    out: bytes
    err: bytes


@dataclass
class Commands:
    """Runs commands. `files` is the server's tree."""

    files: MemoryTree

    @classmethod
    def on(cls, monkeypatch: pytest.MonkeyPatch) -> Commands:
        """Have an empty server as the default profile's. In a test that has a `home`."""
        files = MemoryTree(time.time)
        files.mkdir(b"/shared")
        files.mkdir(ROOT)
        monkeypatch.setattr(
            stack, "SftpRemote", lambda _dialer, timeout, metered=False: Remote(files, timeout=timeout)
        )
        monkeypatch.setattr(logs, "_verbosity", 0)
        save_profile(Profile("default", Address.parse("ssh host"), id="0f"))
        return cls(files)

    def file(self, path: bytes, data: bytes) -> None:
        """A file below the root that nobody has written to for long; its directories are made."""
        above = ROOT
        for name in path.split(b"/")[:-1]:
            above += b"/" + name
            with contextlib.suppress(OSError):
                self.files.mkdir(above)
        self.files.write(ROOT + b"/" + path, data)
        self.files.utime(ROOT + b"/" + path, 1_700_000_000)

    def run(self, *words: str | bytes | os.PathLike[str]) -> Said:
        """What a command said, byte for byte."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in "oe")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([os.fsdecode(word) for word in words])
            sys.stdout.flush()
            sys.stderr.flush()
        return Said(code, *(stream.buffer.getvalue() for stream in (out, err)))  # type: ignore[attr-defined]
