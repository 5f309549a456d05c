"""Event files of many runs are fetched together once a program opens those of two; of one, nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse

RUNS = 8


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Path]]:
    """The event file of each run, through a mount."""
    root = tmp_path / "artifacts"
    for run in range(RUNS):
        path = root / f"exp-{run}/tensorboard/events.out.tfevents.1700000000.host"
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(20_000))
        settle(path)
        (path.parent / "notes.bin").write_bytes(b"not an event file")
    with Sshd() as sshd, Mounted(sshd, root, tmp_path) as mount:
        for _ in os.walk(mount):
            pass
        yield [mount / f"exp-{run}/tensorboard/events.out.tfevents.1700000000.host" for run in range(RUNS)]


def state(path: Path) -> bytes:
    return os.getxattr(path, "user.artisync.state")


def test_two_runs_opened_bring_the_event_files_of_all(runs: list[Path]) -> None:
    for path in runs[:2]:
        path.read_bytes()
    assert eventually(lambda: all(state(path) == b"cached" for path in runs))
    assert state(runs[7].with_name("notes.bin")) == b"remote"


def test_one_run_opened_brings_no_other(runs: list[Path]) -> None:
    assert len(runs[0].read_bytes()) == 20_000
    assert len(runs[0].read_bytes()) == 20_000
    assert [state(path) for path in runs[1:]] == [b"remote"] * (RUNS - 1)
