"""What artisync leaves on this machine is for its user alone, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfs.base.address import Address
from vfs.base.places import cache_dir, config_dir, state_dir
from vfs.base.profiles import Profile, save_profile
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
from vfs.cli import logs, mount
from vfs.commands import pull_journal
from vfs.control import sockets
from vfs.remote.ssh import hostkeys


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def others_may(home: Path) -> dict[str, str]:
    """All files and directories below the home that are not for the user alone, with their modes."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in home.rglob("*")}
    return {str(path.relative_to(home)): oct(mode) for path, mode in modes.items() if mode & 0o077}


def test_a_profile(home: Path) -> None:
    save_profile(Profile("default", Address.parse("ssh host")))
    assert others_may(home) == {}


def test_known_hosts(home: Path) -> None:
    hostkeys._rewrite(config_dir() / "known_hosts", "host", hostkeys.HostKey("ssh-ed25519", b"x"))
    assert others_may(home) == {}


def test_the_cache(home: Path) -> None:
    disk = DiskCache.open(cache_dir(), 1 << 30)
    block = Block(100)
    block.write(0, b"x" * 100)
    disk.write(b"\x01" * 16, 0, block)
    disk.set_record("f:x", b"1")
    assert disk.flush(10)
    assert others_may(home) == {}
    disk.close()
    assert others_may(home) == {}


def test_the_journal_of_a_pull(home: Path) -> None:
    with pull_journal.Pulled(home) as journal:
        journal.note("x", pull_journal.Left(1, 1, "00"))
        assert others_may(home) == {}
    assert others_may(home) == {}


def test_the_place_of_control_sockets(home: Path) -> None:
    sockets.prepare(state_dir() / "run")
    assert others_may(home) == {}


def test_the_log_of_a_mount(home: Path) -> None:
    os.close(logs.open_log(mount.default_log(home / "m")))
    assert others_may(home) == {}
