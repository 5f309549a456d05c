"""A link that stalls and jitters under a large read: changes are seen in time, and it never counts as offline."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from tests.lab.mounted import needs_fuse
from tests.lab.world import SLACK, World

pytestmark = needs_fuse

RTT_MS, JITTER_MS, STALL = 60, 30, 0.3
TTL = 2.0


def test_a_change_is_seen_within_the_ttl_and_two_round_trips_of_a_link_that_stalls_and_jitters(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, timeout=20, rtt_ms=RTT_MS, rate_mbit=20)
    world.file("exp/big", 40 << 20)
    world.file("exp/note", 1)
    over = threading.Event()

    def drain() -> None:
        with open(world.path / "exp/big", "rb", buffering=0) as file:
            while not over.is_set():
                file.read(1 << 17)

    def trouble() -> None:
        dice = random.Random(1)
        while not over.is_set():
            world.relay.blackhole()
            time.sleep(STALL)
            world.relay.blackhole(False)
            for _ in range(10):
                world.relay.delay(RTT_MS + dice.uniform(-JITTER_MS, JITTER_MS))
                time.sleep(0.1)

    with world:
        threads = [threading.Thread(target=work) for work in (drain, trouble)]
        for thread in threads:
            thread.start()
        try:
            for text in ("one", "two two"):
                (world.path / "exp/note").read_bytes()
                (world.root / "exp/note").write_text(text)
                time.sleep(TTL + 2 * (RTT_MS + JITTER_MS) / 1000)
                began = time.monotonic()
                assert (world.path / "exp/note").read_text() == text
                assert time.monotonic() - began <= STALL + SLACK
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert world.status()["state"] == "online"
        assert "offline" not in world.log
