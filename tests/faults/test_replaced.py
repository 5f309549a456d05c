"""A file is replaced or removed on the server while a program has it open."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse, settle
from tests.lab.processes import Program
from tests.lab.waiting import eventually
from tests.lab.world import World, read

pytestmark = needs_fuse

SIZE = 5 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.file("exp/file", SIZE)
    with world:
        yield world


def stale(fd: int, offset: int) -> bool:
    """Whether a read there fails because the version is gone. Raises any other failure."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        os.pread(fd, 100_000, offset)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return True
    return False


def test_a_removed_file_is_stale_for_who_has_it_open_and_gone_for_the_rest(world: World) -> None:
    old = (world.root / "exp/file").read_bytes()
    with open(world.path / "exp/file", "rb", buffering=0) as file:
        assert file.read(1000) == old[:1000]
        (world.root / "exp/file").unlink()
        assert eventually(lambda: not (world.path / "exp/file").exists())
        assert stale(file.fileno(), 4 << 20)
    with pytest.raises(FileNotFoundError):
        open(world.path / "exp/file").close()


def test_a_file_removed_while_the_link_is_lost_is_stale_for_who_has_it_open(world: World) -> None:
    old = world.file("exp/large", 30 << 20)
    assert eventually((world.path / "exp/large").exists)
    with open(world.path / "exp/large", "rb", buffering=0) as file:
        assert file.read(1000) == old[:1000]
        (world.root / "exp/large").unlink()
        world.relay.reset()
        assert stale(file.fileno(), 20 << 20)


@pytest.mark.parametrize("how", ["renamed over", "written anew"])
def test_a_replaced_file_is_never_mixed(world: World, how: str) -> None:
    path = world.root / "exp/file"
    old, new = path.read_bytes(), os.urandom(SIZE)
    with open(world.path / "exp/file", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 100_000, 0) == old[:100_000]
        target = path if how == "written anew" else world.root / "temporary"
        target.write_bytes(new)
        settle(target)
        os.utime(target, (1_700_000_001, 1_700_000_001))
        if target != path:
            target.rename(path)
        assert eventually(lambda: stale(file.fileno(), 4 << 20))
        assert stale(file.fileno(), 0)
    assert eventually(lambda: read(world.path / "exp/file") == new)


def test_a_mapping_of_a_replaced_file_ends_the_program_instead_of_mixing(world: World) -> None:
    old, new = (world.root / "exp/file").read_bytes(), os.urandom(SIZE)
    program = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    print(mapped[:4096].hex(), flush=True)
    sys.stdin.readline()
    print(mapped[-4096:].hex(), flush=True)
"""
    with Program(
        [sys.executable, "-c", program, world.path / "exp/file"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == old[:4096].hex()
        (world.root / "temporary").write_bytes(new)
        (world.root / "temporary").rename(world.root / "exp/file")
        assert eventually(lambda: (world.path / "exp/file").stat().st_mtime > 1_700_000_001)
        rest, _ = reader.communicate("\n", timeout=20)
    assert rest.strip() in ("", old[-mmap.PAGESIZE :].hex())


def test_a_file_replaced_by_a_longer_one_before_anything_was_read_is_given_whole(tmp_path: Path) -> None:
    world = World(tmp_path, "--ttl", "10s", "--metered", timeout=10)  # nothing is fetched before it is read
    names = [f"exp/{number}.bin" for number in range(8)]
    for name in names:
        world.file(name, 500)
    with world:
        for name in names:
            assert (world.path / name).stat().st_size == 500
            new = world.file("new", 507)
            os.rename(world.root / "new", world.root / name)
            assert read(world.path / name) == new
            assert (world.path / name).stat().st_size == 507
