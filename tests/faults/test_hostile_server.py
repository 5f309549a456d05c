"""A server that spoils its answers: no wrong byte, no hang, nothing outside the mount, bounded memory, and it recovers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import sftp_between, twisted_sftp
from tests.lab.mounted import needs_fuse
from tests.lab.waiting import eventually
from tests.lab.world import SLACK, TIMEOUT, World, read

pytestmark = [
    needs_fuse,
    pytest.mark.skipif(
        not os.access(sftp_between.SFTP_SERVER, os.X_OK), reason="needs OpenSSH's sftp-server"
    ),
]

MEMORY = 300 << 20


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    """A mount over a server that does what the file says."""
    place = tmp_path_factory.mktemp("hostile")
    mode = place / "mode"
    mode.write_text("honest")
    program = f"{sys.executable} -I -S {twisted_sftp.__file__} {mode}"
    world = World(place, extra=[f"Subsystem sftp {program}"])
    for number in range(1 + len(twisted_sftp.TWISTS)):
        world.file(f"{number}/file", 300_000)
        (world.root / f"{number}/link").symlink_to("file")
        if number:
            world.file(f"{number}/{os.fsdecode(twisted_sftp.MARK)}")
    with world:
        assert read(world.path / "0/file") == (world.root / "0/file").read_bytes()
        os.listdir(world.path / "0")
        yield world, mode


@pytest.mark.parametrize("twist", twisted_sftp.TWISTS)
def test_a_spoiled_answer_is_an_error_at_worst(spoiled: tuple[World, Path], twist: str) -> None:
    world, mode = spoiled
    number = 1 + list(twisted_sftp.TWISTS).index(twist)
    mode.write_text(twist)
    try:
        for work in (_list, _read, _follow):
            began = time.monotonic()
            try:
                work(world, number)
            except OSError as error:
                assert error.errno is not None  # noqa: PT017
            assert time.monotonic() - began < 2 * (TIMEOUT + SLACK)
        began = time.monotonic()
        assert read(world.path / "0/file") == (world.root / "0/file").read_bytes()
        assert "file" in os.listdir(world.path / "0")
        assert time.monotonic() - began < TIMEOUT
        assert _memory(world.pid) < MEMORY
        if twist == "nothing":
            assert eventually(lambda: world.status()["state"] == "offline", 12)
    finally:
        mode.write_text("honest")
    assert eventually(lambda: _is_right(world, number), 20)


def _list(world: World, number: int) -> None:
    for name in os.listdir(world.path / str(number)):
        assert "/" not in name
        assert name not in ("..", "")


def _read(world: World, number: int) -> None:
    assert read(world.path / f"{number}/file") == (world.root / f"{number}/file").read_bytes()


def _follow(world: World, number: int) -> None:
    """Whatever the link says, it leads to a place inside the mount, if to any."""
    link = world.path / f"{number}/link"
    target = os.path.normpath(link.parent / os.readlink(link))
    assert Path(target).is_relative_to(world.path)


def _is_right(world: World, number: int) -> bool:
    try:
        _read(world, number)
        return sorted(os.listdir(world.path / str(number))) == [
            "file",
            "link",
            os.fsdecode(twisted_sftp.MARK),
        ]
    except OSError:
        return False


def _memory(pid: int) -> int:
    """Bytes of memory that the process has."""
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) << 10
