"""The link swallows everything, and every socket stays open: a VPN that is off, a laptop that moved.

What is cached goes on at full speed, what is not fails in time, nobody hangs, and it comes back by itself.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.processes import Program
from tests.lab.waiting import eventually
from tests.lab.world import SLACK, TIMEOUT, World, failure, read

pytestmark = needs_fuse

WAITING = 200
AT_ONCE = 1.5
"""Seconds that something which is known may take, with 200 threads of our own beside it."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The file `known` has been read and the root been listed; then the link goes dark."""
    world = World(tmp_path)
    for number in range(WAITING):
        world.file(f"exp/new{number}")
    want = world.file("exp/known", 3 << 20)
    with world:
        assert read(world.path / "exp/known") == want
        assert len(os.listdir(world.path / "exp")) == WAITING + 1
        world.relay.blackhole()
        yield world
        world.relay.blackhole(False)


def seconds(work: object) -> float:
    began = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - began


def test_what_is_known_answers_at_once_while_two_hundred_reads_wait(world: World) -> None:
    want = (world.root / "exp/known").read_bytes()
    outcomes: list[tuple[int, float]] = []
    readers = [
        threading.Thread(target=lambda path=world.path / f"exp/new{number}": outcomes.append(failure(path)))
        for number in range(WAITING)
    ]
    for reader in readers:
        reader.start()
    taken = []
    end = time.monotonic() + TIMEOUT / 2
    while time.monotonic() < end:
        taken.append(seconds(lambda: read(world.path / "exp/known")))
        taken.append(seconds(lambda: os.listdir(world.path / "exp")))
        taken.append(seconds(lambda: os.stat(world.path / "exp/new7")))
        assert read(world.path / "exp/known") == want
        time.sleep(0.1)
    assert any(reader.is_alive() for reader in readers)
    for reader in readers:
        reader.join(TIMEOUT + SLACK)
    assert len(outcomes) == WAITING
    assert {number for number, _ in outcomes} <= {errno.ETIMEDOUT, errno.EHOSTUNREACH}
    assert max(took for _, took in outcomes) < TIMEOUT + SLACK
    assert max(taken) < AT_ONCE


def test_once_the_link_is_known_to_be_down_failures_are_at_once_and_it_comes_back(world: World) -> None:
    number, took = failure(world.path / "exp/new0")
    assert number in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
    assert took < TIMEOUT + SLACK
    assert eventually(lambda: failure(world.path / "exp/new0")[0] == errno.EHOSTUNREACH, 12 + TIMEOUT)
    began = time.monotonic()
    for at in range(1, 21):
        assert failure(world.path / f"exp/new{at}")[0] == errno.EHOSTUNREACH
        os.stat(world.path / f"exp/new{at}")
    assert time.monotonic() - began < TIMEOUT + SLACK  # all of them; each would wait so long
    status = world.status()
    assert status["state"] == "offline"
    assert status["problem"]
    world.relay.blackhole(False)
    assert eventually(lambda: failure(world.path / "exp/new0")[0] == 0, 10)  # an attempt under way takes 5 s
    assert read(world.path / "exp/new1") == (world.root / "exp/new1").read_bytes()
    status = world.status()
    assert status["state"] == "online"
    assert status["problem"] is None
    assert " offline: " in world.log
    assert " online after " in world.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_reader_that_waits_is_ended_at_once(world: World, number: signal.Signals) -> None:
    reader = Program(
        [
            sys.executable,
            "-c",
            "import sys; print(flush=True); open(sys.argv[1]).read()",
            world.path / "exp/new0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert eventually(lambda: _waits(reader.pid))
        reader.send_signal(number)
        reader.wait(1)
    assert reader.returncode == -number


def _waits(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SD"
