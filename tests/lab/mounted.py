"""A real mount for tests: the `artisync mount` command with a cache and a configuration of its own."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import pytest

from tests.lab.client import Client
from tests.lab.sshd import Sshd
from vfs.frontends.mountpoint import is_mounted

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is not open to this user"
)


def settle(path: Path) -> None:
    """Make it a file that nobody has written to for long."""
    os.utime(path, (1_700_000_000, 1_700_000_000))


def write(path: Path, data: bytes) -> Path:
    """A file that nobody has written to for long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    settle(path)
    return path


class Mounted(Client):
    """`with Mounted(sshd, root, tmp_path) as path:` mounts `root` of the server at `path`."""

    def __init__(self, sshd: Sshd, root: Path, place: Path, *options: str, port: int | None = None) -> None:
        """`options` of `artisync mount`; `port`: that of a relay in front of the server."""
        super().__init__(sshd, root, place, port=port)
        self.path = place / "mnt"
        self.log = place / "mount.log"
        self.words = [*self.server, "--accept-new-host-key", "--log-file", str(self.log), *options]

    def mount(self) -> Path:
        done = self.artisync("mount", *self.words, str(self.path))
        assert done.returncode == 0, done.stderr
        assert os.path.ismount(self.path)
        return self.path

    def unmount(self) -> None:
        done = self.artisync("unmount", str(self.path))
        assert done.returncode == 0, done.stderr
        assert not os.path.ismount(self.path)

    def __enter__(self) -> Path:
        return self.mount()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # whatever state it is in
            self.artisync("unmount", "--force", self.path)
        elif is_mounted(self.path):
            self.unmount()
        text = self.log.read_text() if self.log.exists() else ""
        at = text.find("Traceback")
        assert at < 0, text[max(0, at - 500) : at + 4000]
