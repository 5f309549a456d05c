"""The server stops answering and goes on, or this machine sleeps and wakes up: stopped processes stand for both."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.lab.mounted import needs_fuse
from tests.lab.processes import stopped
from tests.lab.waiting import eventually
from tests.lab.world import SLACK, TIMEOUT, World, failure, read

pytestmark = needs_fuse

NOTICED = 12
"""Seconds within which a dead link is noticed, with as much again for a busy machine."""


def test_a_server_that_stops_for_seconds_delays_a_read_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, timeout=20)
    known, new = world.file("exp/known"), world.file("exp/new")
    with world, ThreadPoolExecutor(1) as pool:
        assert read(world.path / "exp/known") == known
        os.listdir(world.path / "exp")
        with stopped(world.sshd.signal):
            reading = pool.submit(read, world.path / "exp/new")
            began = time.monotonic()
            assert read(world.path / "exp/known") == known
            assert len(os.listdir(world.path / "exp")) == 2
            assert time.monotonic() - began < SLACK
            time.sleep(2)
            assert not reading.done()
        assert reading.result(10) == new


def test_a_server_that_stays_stopped_is_no_answer_in_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.file("exp/new")
    with world:
        os.listdir(world.path / "exp")
        with stopped(world.sshd.signal):
            number, took = failure(world.path / "exp/new")
        assert number == errno.ETIMEDOUT
        assert took < TIMEOUT + SLACK


def test_after_a_sleep_with_the_link_dead_what_is_known_answers_and_it_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    known = world.file("exp/known")
    new = world.file("exp/new")
    with world:
        assert read(world.path / "exp/known") == known
        os.listdir(world.path / "exp")
        with stopped(partial(os.kill, world.pid)):
            world.relay.blackhole()
            time.sleep(4)
        # it was asked longer ago than the TTL: nothing is told of it before the link is known to be down
        assert eventually(lambda: failure(world.path / "exp/known")[0] == 0, NOTICED)
        began = time.monotonic()
        assert read(world.path / "exp/known") == known
        assert os.listdir(world.path / "exp")
        assert time.monotonic() - began < SLACK
        assert failure(world.path / "exp/new")[1] < TIMEOUT + SLACK
        world.relay.blackhole(False)
        assert eventually(lambda: failure(world.path / "exp/new")[0] == 0, 15)
        assert read(world.path / "exp/new") == new
