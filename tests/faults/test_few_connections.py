"""A server that allows few sessions, or few clients that are logging in: fewer connections, the same files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.world import World, digest

pytestmark = needs_fuse

LIMITS = ["MaxSessions 1", "MaxStartups 1"]


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_server_with_narrow_limits_serves_many_readers(tmp_path: Path, transport: str) -> None:
    world = World(tmp_path, transport=transport, timeout=20, extra=LIMITS, rtt_ms=20)
    for number in range(6):
        world.file(f"exp/{number}", 4 << 20)
    with world, ThreadPoolExecutor(6) as pool:
        for _ in range(2):  # and after a lost link once more
            digests = list(
                pool.map(lambda number: digest(world.path / f"exp/{number}"), range(6), timeout=40)
            )
            assert digests == [digest(world.root / f"exp/{number}") for number in range(6)]
            world.relay.reset()
