"""Our process is killed: the next mount of that place cleans up and works, and the cache is intact."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import threading
import time
from pathlib import Path

from tests.lab.mounted import needs_fuse
from tests.lab.processes import descendants
from tests.lab.waiting import eventually
from tests.lab.world import World, failure, read

pytestmark = needs_fuse

ROUNDS = 3


def kill(world: World) -> None:
    os.kill(world.pid, signal.SIGKILL)
    assert eventually(lambda: failure(world.path / "exp/0")[0] in (errno.ENOTCONN, errno.ECONNABORTED))


def test_what_was_cached_before_a_kill_is_read_from_the_cache_after_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    want = world.file("exp/0", 3 << 20)
    with world:
        assert read(world.path / "exp/0") == want
        assert eventually(lambda: os.getxattr(world.path / "exp/0", "user.artisync.state") == b"cached")
        time.sleep(1)  # until it is on the disk, behind the reader
        kill(world)
        world.mounted.mount()
        before = world.relay.bytes_down()
        assert read(world.path / "exp/0") == want
        assert world.relay.bytes_down() - before < 200_000


def test_a_kill_leaves_no_ssh_behind(tmp_path: Path) -> None:
    world = World(tmp_path, transport="openssh")
    world.file("exp/0")
    with world:
        read(world.path / "exp/0")
        children = descendants(world.pid)
        assert children
        kill(world)
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        assert eventually(lambda: world.sshd.sessions() == 0)
        world.mounted.mount()


def test_killed_at_any_moment_of_reading_the_next_mount_has_right_bytes(tmp_path: Path) -> None:
    world = World(tmp_path, "--cache-size", "64MiB", rate_mbit=800)
    contents = [world.file(f"exp/{number}", 12 << 20) for number in range(8)]
    chance = random.Random(6)
    with world:
        for round_ in range(ROUNDS):
            readers = [threading.Thread(target=_read_all, args=(world, number)) for number in range(8)]
            for reader in readers:
                reader.start()
            time.sleep(chance.uniform(0, 0.6))
            kill(world)
            for reader in readers:
                reader.join(10)
                assert not reader.is_alive()
            world.mounted.mount()
            assert read(world.path / f"exp/{round_}") == contents[round_]
        for number, content in enumerate(contents):
            assert read(world.path / f"exp/{number}") == content


def _read_all(world: World, first: int) -> None:
    """Read on until the mount is gone."""
    with contextlib.suppress(OSError):
        for number in range(first, first + 8):
            read(world.path / f"exp/{number % 8}")
