"""Connections that break under a long read, and a server that refuses for a while: it takes longer, and is right."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.world import World, digest

pytestmark = needs_fuse

SIZE = 12 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A file that the link needs two seconds for."""
    world = World(tmp_path, timeout=20, rtt_ms=20, rate_mbit=50)
    world.file("exp/long", SIZE)
    with world:
        yield world


def read_under(world: World, trouble: Callable[[], None]) -> bool:
    """Whether the file's bytes are right when `trouble` happens meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(digest, world.path / "exp/long")
        trouble()
        return reading.result(60) == digest(world.root / "exp/long")


def test_a_long_read_goes_over_killed_sessions_resets_and_seconds_of_refusal(world: World) -> None:
    def trouble() -> None:
        for break_it in (world.sshd.kill_sessions, world.relay.reset, world.relay.refuse, world.relay.reset):
            time.sleep(0.5)
            break_it()
        time.sleep(1.5)
        world.relay.refuse(False)

    assert read_under(world, trouble)


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_readers_go_over_a_link_that_breaks_every_two_seconds(tmp_path: Path, transport: str) -> None:
    world = World(tmp_path, transport=transport, timeout=20, rtt_ms=10)
    for number in range(4):
        world.file(f"exp/{number}", 8 << 20)
    with world, ThreadPoolExecutor(4) as pool:
        world.relay.slow(100)
        over = threading.Event()

        def flap() -> None:
            while not over.wait(1.5):
                world.relay.refuse()
                world.relay.reset()
                over.wait(0.5)
                world.relay.refuse(False)

        flapping = threading.Thread(target=flap)
        flapping.start()
        try:
            digests = list(
                pool.map(lambda number: digest(world.path / f"exp/{number}"), range(4), timeout=60)
            )
        finally:
            over.set()
            flapping.join()
        assert digests == [digest(world.root / f"exp/{number}") for number in range(4)]
