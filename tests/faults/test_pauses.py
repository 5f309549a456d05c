"""The server pauses for a moment, or is gone for seconds: nobody is told old news, or waits for what is known to be lost."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
from pathlib import Path

from tests.lab.mounted import needs_fuse, settle
from tests.lab.waiting import eventually
from tests.lab.world import SLACK, World, failure, read

pytestmark = needs_fuse


def test_after_a_pause_of_the_server_a_file_replaced_longer_ago_than_the_ttl_is_the_new_one(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, timeout=20)
    old = world.file("exp/f")
    with world:
        for known in (old, b"n" * 1000):
            assert read(world.path / "exp/f") == known
            names = os.listdir(world.path / "exp")
            time.sleep(3)
            new = known[:-1] + b"w" if known is not old else b"n" * 1000
            (world.root / "exp/new").write_bytes(new)
            settle(world.root / "exp/new")
            os.replace(world.root / "exp/new", world.root / "exp/f")
            (world.root / f"exp/{len(names)}").touch()
            world.sshd.signal(signal.SIGSTOP)
            threading.Timer(0.5, world.sshd.signal, [signal.SIGCONT]).start()
            if known is old:
                assert read(world.path / "exp/f") == new
            else:
                assert len(os.listdir(world.path / "exp")) == len(names) + 1


def test_a_look_at_a_fifo_with_the_name_of_a_checkpoint_blocks_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, timeout=6, rtt_ms=50)  # so that a name is asked for before its listing is there
    want = world.file("exp/f")
    for name in ("x.pt", "x.yaml"):
        os.mkfifo(world.root / "exp" / name)
    with world:
        began = time.monotonic()
        for name in ("x.pt", "x.yaml"):
            assert stat.S_ISFIFO(os.stat(world.path / "exp" / name).st_mode)
        assert read(world.path / "exp/f") == want
        assert time.monotonic() - began < SLACK
        time.sleep(6)  # a connection that is blocked is given up after five
        assert " is dropped" not in world.log
        assert world.status()["state"] == "online"
        assert "no answer for" not in world.log


def test_a_link_that_died_while_nobody_asked_is_found_and_its_timeout_has_run(tmp_path: Path) -> None:
    world = World(tmp_path, timeout=6)
    world.file("exp/new")
    with world:
        os.listdir(world.path / "exp")
        world.relay.blackhole()
        time.sleep(9)
        number, took = failure(world.path / "exp/new")
        assert number in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
        assert took < 4.5
        assert eventually(lambda: world.status()["state"] == "offline", 3)
        assert failure(world.path / "exp/new")[0] == errno.EHOSTUNREACH
        world.relay.blackhole(False)


def test_a_file_that_became_a_fifo_unseen_is_one_at_the_next_open_and_blocks_nobody_for_long(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, "--ttl", "60s", timeout=20)
    world.file("exp/x")
    want = world.file("exp/f")
    with world:
        assert len(os.listdir(world.path / "exp")) == 2
        os.stat(world.path / "exp/x")
        (world.root / "exp/x").unlink()
        os.mkfifo(world.root / "exp/x")
        began = time.monotonic()
        file = os.open(world.path / "exp/x", os.O_RDONLY | os.O_NONBLOCK)
        assert stat.S_ISFIFO(os.fstat(file).st_mode)
        os.close(file)
        assert read(world.path / "exp/f") == want
        # a connection that is blocked is given up after five to seven seconds
        assert time.monotonic() - began < 10 + SLACK
        assert world.log.count("no answer for") <= 1
