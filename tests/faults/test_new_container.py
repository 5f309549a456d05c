"""The container is gone: mounted all the same with what is known; and moved to the new one by `artisync connect`."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.listener import listener
from tests.lab.mounted import Mounted, needs_fuse
from tests.lab.sshd import Sshd
from tests.lab.world import World, failure, read

pytestmark = needs_fuse


def connect(mounted: Mounted, sshd: Sshd, *options: str) -> subprocess.CompletedProcess[str]:
    """`artisync connect` with the server's line."""
    line = Mounted(sshd, mounted.root, mounted.place).address.line()
    return mounted.artisync("connect", *options, "--accept-new-host-key", line)


def test_connect_moves_a_live_mount_with_its_open_files_and_its_cache(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, new = world.file("exp/known"), world.file("exp/new", 3 << 20)
    with Sshd() as old, Sshd() as container:
        mounted = Mounted(old, world.root, tmp_path)
        mounted.words = ["--timeout", "20", "--log-file", str(mounted.log)]
        saved = connect(mounted, old, "--remote-root", str(world.root), "--cache-dir", str(mounted.cache))
        assert saved.returncode == 0, saved.stderr
        with mounted as path, ThreadPoolExecutor(1) as pool:
            assert read(path / "exp/known") == known
            with open(path / "exp/new", "rb", buffering=0) as file:
                assert file.read(100) == new[:100]
                old.stop()
                reading = pool.submit(file.read)
                moved = connect(mounted, container)
                assert moved.returncode == 0, moved.stderr
                assert "Moved the mount" in moved.stderr
                assert new.endswith(reading.result(20))
                assert os.pread(file.fileno(), 1 << 20, 2 << 20) == new[2 << 20 :]
            assert read(path / "exp/known") == known
            assert container.sessions() > 0


def test_a_mount_whose_host_is_gone_comes_up_with_what_it_knows_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, _ = world.file("exp/known"), world.file("exp/new")
    with world:
        assert read(world.path / "exp/known") == known
        os.listdir(world.path / "exp")
        world.mounted.unmount()
        world.relay.refuse()
        world.relay.reset()
        done = world.mounted.artisync("mount", *world.mounted.words, str(world.path))
        assert done.returncode == 0
        assert "offline" in done.stderr
        assert sorted(os.listdir(world.path / "exp")) == ["known", "new"]
        assert read(world.path / "exp/known") == known
        assert failure(world.path / "exp/new")[0] != 0
        world.mounted.unmount()


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_host_that_hangs_up_at_once_is_as_good_as_gone(tmp_path: Path, transport: str) -> None:
    world = World(tmp_path, transport=transport)
    known = world.file("exp/known")
    with world:
        assert read(world.path / "exp/known") == known
        world.mounted.unmount()
        with listener(lambda connection: connection.close()) as port:
            gone = Mounted(world.sshd, world.root, tmp_path, "--transport", transport, port=port)
            done = gone.artisync("mount", *gone.words, str(gone.path))
            assert done.returncode == 0, done.stderr
            assert "offline" in done.stderr
            assert read(gone.path / "exp/known") == known
            gone.unmount()


def test_a_mount_that_was_never_there_fails_with_the_cause(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.file("exp/known")
    with Sshd() as sshd:
        mounted = Mounted(sshd, world.root, tmp_path)
        sshd.stop()
        done = mounted.artisync("mount", *mounted.words, str(mounted.path))
        assert done.returncode == 1
        assert "refuses the connection" in done.stderr
        assert "artisync connect" in done.stderr
        assert not mounted.path.exists()
