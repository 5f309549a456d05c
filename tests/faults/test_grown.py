"""A file that only grows stays readable: while the link is down, and while other files take its place in the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.waiting import eventually
from tests.lab.world import World, read

pytestmark = needs_fuse

MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "--cache-size", "64M")
    world.file("exp/grown.pt", MIB)
    world.file("exp/events.out.tfevents.1.host", 5000)
    world.file("exp/notes.dat", 5000)
    world.file("exp/other", 160 * MIB)
    with world:
        yield world


def append(world: World, name: str, data: bytes) -> None:
    """Append on the server, and wait until it is seen."""
    with open(world.root / name, "ab") as file:
        file.write(data)
    size = os.stat(world.root / name).st_size
    assert eventually(lambda: os.stat(world.path / name).st_size == size)


def test_a_file_that_grew_and_was_read_is_read_in_a_black_hole(world: World) -> None:
    path = world.path / "exp/grown.pt"
    read(path)
    append(world, "exp/grown.pt", os.urandom(700_000))
    want = (world.root / "exp/grown.pt").read_bytes()
    assert read(path) == want
    settled = time.time() + 4
    assert eventually(lambda: bool(os.listdir(world.path / "exp")) and time.time() > settled)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        world.relay.blackhole()
        assert file.read() == want
    assert eventually(lambda: world.status()["state"] == "offline", 15)
    assert read(path) == want


def test_an_open_file_that_grows_is_read_on_though_others_took_its_place_in_memory_and_on_disk(
    world: World,
) -> None:
    names = ["exp/events.out.tfevents.1.host", "exp/notes.dat"]
    handles = [os.open(world.path / name, os.O_RDONLY) for name in names]
    try:
        for number in range(2):
            for name, handle in zip(names, handles, strict=True):
                assert os.pread(handle, MIB, 0) == (world.root / name).read_bytes()
            assert len(read(world.path / "exp/other")) == 160 * MIB
            for name, handle in zip(names, handles, strict=True):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                end, more = os.stat(world.root / name).st_size, b"%d" % number * 1000
                append(world, name, more)
                assert os.pread(handle, MIB, end) == more
    finally:
        for handle in handles:
            os.close(handle)
