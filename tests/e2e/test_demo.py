"""`artisync demo` on a terminal: two experiments are mounted, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.terminal import Terminal
from tests.lab.waiting import eventually

pytestmark = needs_fuse

CTRL_C = "\x03"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture
def demo(place: Path) -> Iterator[Terminal]:
    """The demo at a mount point that has to be made, as is the directory that it is in."""
    homes = {f"XDG_{name}_HOME": str(place / name) for name in ("CONFIG", "CACHE", "STATE")}
    environment = {**os.environ, **homes, "XDG_RUNTIME_DIR": str(place), "TMPDIR": str(place / "tmp")}
    words = [sys.executable, "-m", "vfs", "demo", str(place / "new/artifacts")]
    with Terminal(words, environment) as terminal:
        yield terminal


def left(place: Path) -> list[str]:
    """What there is beside what this test made."""
    return sorted(
        str(path.relative_to(place)) for path in place.rglob("*") if path.name not in ("tmp", "artisync")
    )


def test_two_experiments_are_shown_until_ctrl_c(demo: Terminal, place: Path) -> None:
    demo.sees("Ctrl-C here ends the demo.")
    shown = place / "new/artifacts"
    assert sorted(os.listdir(shown)) == ["exp-1", "exp-2"]
    before = (shown / "exp-1/logs/console.log").read_bytes()
    assert before
    assert eventually(lambda: len((shown / "exp-1/logs/console.log").read_bytes()) > len(before), 20)
    demo.presses(CTRL_C)
    assert demo.ended() == 0
    assert left(place) == []


def test_ctrl_c_before_the_mount_is_there(demo: Terminal, place: Path) -> None:
    demo.sees("Generating")
    demo.presses(CTRL_C)
    assert demo.ended() == 130
    assert eventually(lambda: left(place) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_impatience_does_not_stop_the_cleaning_up(demo: Terminal, place: Path, number: int) -> None:
    demo.sees("Ctrl-C here ends the demo.")
    demo.presses(CTRL_C)
    demo.sees("Cleaning up")
    demo.send(number)
    assert demo.ended() == 0
    assert left(place) == []
