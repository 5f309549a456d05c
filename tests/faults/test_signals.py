"""How a mount ends: by signal, by hand, while it is used. Nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.processes import Program
from tests.lab.waiting import eventually
from tests.lab.world import World, failure, read

pytestmark = needs_fuse


@pytest.fixture(params=["paramiko"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path, transport=request.param, timeout=20)
    want = world.file("exp/known")
    world.file("exp/new")
    with world:
        assert read(world.path / "exp/known") == want
        os.listdir(world.path / "exp")
        yield world


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child of pytest's that has ended is there until it is waited for.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def nothing_is_left(world: World, pid: int) -> bool:
    """No process, no mount, no socket."""
    sockets = list((world.mounted.place / "artisync").glob("*.sock"))
    return not alive(pid) and not os.path.ismount(world.path) and not sockets


@pytest.mark.parametrize(
    ("world", "number"),
    [
        ("paramiko", signal.SIGTERM),
        ("openssh", signal.SIGTERM),
        ("paramiko", signal.SIGINT),
        ("paramiko", signal.SIGHUP),
    ],
    indirect=["world"],
)
def test_a_signal_unmounts_cleanly(world: World, number: signal.Signals) -> None:
    pid = world.pid
    os.kill(pid, number)
    assert eventually(lambda: nothing_is_left(world, pid))
    assert eventually(lambda: world.sshd.sessions() == 0)


def test_a_signal_unmounts_while_the_link_is_dead_and_a_reader_waits(world: World) -> None:
    pid = world.pid
    world.relay.blackhole()
    outcomes: list[tuple[int, float]] = []
    reader = threading.Thread(target=lambda: outcomes.append(failure(world.path / "exp/new")))
    reader.start()
    assert not eventually(lambda: not reader.is_alive(), 0.5)
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: nothing_is_left(world, pid))
    reader.join(2)
    assert outcomes
    assert outcomes[0][0] != 0


def test_an_unmount_while_a_reader_waits_in_open_names_it_and_force_ends_both(world: World) -> None:
    pid = world.pid
    world.relay.blackhole()
    words = [sys.executable, "-c", "import sys; print(flush=True); open(sys.argv[1])", world.path / "exp/new"]
    with Program(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert eventually(lambda: f"({reader.pid})" in world.mounted.artisync("unmount", world.path).stderr)
        refused = world.mounted.artisync("unmount", world.path)
        assert refused.returncode == 1
        assert f"({reader.pid})" in refused.stderr
        assert "waiting for the server" in refused.stderr
        assert "artisync unmount --force" in refused.stderr
        assert os.path.ismount(world.path)
        assert world.mounted.artisync("unmount", "--force", world.path).returncode == 0
        assert b"Interrupted" not in reader.communicate(timeout=5)[1]
    assert nothing_is_left(world, pid)


def test_an_unmount_by_hand_ends_the_process(world: World) -> None:
    pid = world.pid
    helper = shutil.which("fusermount3") or shutil.which("fusermount") or "umount"
    subprocess.run([helper, *(["-u"] if "fuser" in helper else []), world.path], check=True)
    assert eventually(lambda: nothing_is_left(world, pid))


def test_a_second_unmount_says_that_nothing_is_mounted(world: World) -> None:
    pid = world.pid
    world.mounted.unmount()
    assert nothing_is_left(world, pid)
    again = world.mounted.artisync("unmount", world.path)
    assert again.returncode == 1
    assert "nothing is mounted" in again.stderr


def test_a_mount_leaves_no_temporary_file(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    world = World(tmp_path, transport="openssh")
    want = world.file("exp/known")
    with world:
        world.mounted.unmount()
        world.mounted.environment["TMPDIR"] = str(temporary)
        world.mounted.mount()
        assert read(world.path / "exp/known") == want
        world.mounted.unmount()
    assert list(temporary.iterdir()) == []
