"""The command line in a home of its own, and a kernel that only pretends to mount."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfs.base import errors, mount_table
from vfs.base.mount_table import MountInfo
from vfs.cli import run
from vfs.control import sockets
from vfs.frontends import mountpoint as mountpoints


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(sockets, "directories", lambda: [tmp_path / "run"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Said:
    code: int
    out: str
    err: str


Artisync = Callable[..., Said]


@pytest.fixture
def artisync(home: Path, capsys: pytest.CaptureFixture[str]) -> Artisync:
    def call(*words: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return call


@dataclass
class Kernel:
    """What is mounted, and what was asked of it."""

    mounted: dict[Path, str]
    busy: bool = False
    standing: bool = True
    """Of a busy one: whether somebody's working directory is in it; else only files are open."""
    users_named: bool = True
    """Whether the users of a busy one can be seen from outside; not those that wait in open(2)."""
    dead: bool = False
    source: str = "host:/root"
    device: str = "0:77"
    user: int | None = None
    """Who mounted."""
    asked: list[tuple[Path, bool]] | None = None

    def mounts(self) -> list[MountInfo]:
        items = self.mounted.items()
        return [MountInfo(path, kind, self.source, self.device, self.user) for path, kind in items]

    def mount_info(self, path: Path) -> MountInfo | None:
        return next((mount for mount in self.mounts() if mount.path == path), None)

    def is_mounted(self, path: Path) -> bool:
        return path in self.mounted

    def is_dead(self, _: Path) -> bool:
        return self.dead

    def unmount(self, path: Path, *, force: bool = False) -> None:
        self.asked = [*(self.asked or []), (path, force)]
        if self.busy and not force:
            raise errors.MountBusy(f"{path} is in use by bash (7)")
        del self.mounted[path]

    def users(self, _: Path) -> list[str]:
        return ["bash (7)"] if self.busy and self.users_named else []

    def standing_in(self, _: Path) -> list[str]:
        return ["bash (7)"] if self.busy and self.users_named and self.standing else []


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, home: Path) -> Kernel:
    made = Kernel({home / "m": mount_table.MOUNT_KIND})
    monkeypatch.setattr(mount_table, "mounts", made.mounts)
    for name in ("mount_info", "is_mounted", "is_dead", "unmount"):
        monkeypatch.setattr(mountpoints, name, getattr(made, name))
    monkeypatch.setattr(mountpoints, "busy", made.users)
    monkeypatch.setattr(mountpoints, "standing_in", made.standing_in)
    return made
