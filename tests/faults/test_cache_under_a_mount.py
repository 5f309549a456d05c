"""The cache is deleted, damaged or out of space under a live mount: reading goes on, with right bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.world import World, read

pytestmark = needs_fuse

NAMES = [f"exp/{number}" for number in range(6)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    for name in NAMES:
        world.file(name, 2 << 20)
    with world:
        yield world


def right(world: World) -> bool:
    return all(read(world.path / name) == (world.root / name).read_bytes() for name in NAMES)


def flip(world: World) -> None:
    """Change bytes in the middle of every file of the cache that holds blocks."""
    chance = random.Random(6)
    for path in (world.mounted.cache).rglob("blocks/*/*/*"):
        with open(path, "r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(chance.randbytes(100))


def scribble(world: World) -> None:
    """Overwrite the beginning of the database."""
    for path in world.mounted.cache.rglob("*.db"):
        with open(path, "r+b") as file:
            file.write(b"not a database" * 1000)


def delete(world: World) -> None:
    """Again and again, until nothing is written into it meanwhile."""
    while world.mounted.cache.exists():
        shutil.rmtree(world.mounted.cache, ignore_errors=True)


DAMAGE: dict[str, Callable[[World], None]] = {
    "flipped bytes": flip,
    "a damaged database": scribble,
    "a deleted directory": delete,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_cache_never_gives_a_wrong_byte(world: World, how: str) -> None:
    assert right(world)
    DAMAGE[how](world)
    assert right(world)
    world.mounted.unmount()
    DAMAGE[how](world)
    world.mounted.mount()
    assert right(world)
    world.mounted.unmount()
    world.mounted.mount()
    assert right(world)
    warnings = [line for line in world.log.splitlines() if " WARNING " in line]
    assert len(warnings) <= 6, warnings


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("options", ["size=4m", "size=64m"])
def test_a_full_or_read_only_disk_costs_the_cache_and_nothing_else(tmp_path: Path, options: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache], check=True)
    try:
        world = World(tmp_path)
        for name in NAMES:
            world.file(name, 2 << 20)
        with world:
            assert right(world)
            subprocess.run(["mount", "-o", "remount,ro", cache], check=False)
            world.file("exp/later", 2 << 20)
            assert right(world)
            assert world.status()["state"] == "online"
    finally:
        subprocess.run(["umount", "-l", cache], check=True)
