"""What is drawn on a real terminal, and what is not drawn where there is none."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import Mounted, needs_fuse, write
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from tests.lab.terminal import Terminal

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for name, size in (("checkpoints/best_model.pt", 12 * MIB), ("logs/console.log", 800)):
        write(root / "exp-1" / name, os.urandom(size))
    return root


def run(client: Client, command: str, *more: str | Path, **environment: str) -> Terminal:
    server = client.server if command != "status" else []
    words = [sys.executable, "-m", "vfs", command, *server, *map(str, more)]
    if server:
        words.append("--accept-new-host-key")
    return Terminal(words, {**client.environment, "TERM": "xterm-256color", "COLUMNS": "120", **environment})


def test_a_table_has_a_head_on_a_terminal_and_no_colour_where_none_is_wanted(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    client = Client(sshd, root, tmp_path)
    with run(client, "ls") as terminal:
        assert terminal.ended() == 0
        assert "newest checkpoint" in terminal.plain()
        assert re.search(r"exp-1 +12\.0 MiB +2 +best_model\.pt", terminal.plain())
    with run(client, "ls", NO_COLOR="1") as terminal:
        assert terminal.ended() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.said)


def test_a_pull_shows_bytes_speed_and_time_left(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    with Relay(sshd.port, rate_mbit=40) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        with run(client, "pull", "exp-1", tmp_path / "out") as terminal:
            terminal.matches(r"best_model\.pt.*[0-9.]+/12\.[0-9] MiB .*MiB/s .*0:00:0[0-9]")
            assert terminal.ended() == 0
            assert "Pulled 2 files, 12.0 MiB" in terminal.plain()


def test_ctrl_c_ends_a_pull_and_says_how_to_go_on(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    with Relay(sshd.port, rate_mbit=20) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        with run(client, "pull", "exp-1", tmp_path / "out") as terminal:
            terminal.matches(r"/12\.[0-9] MiB")
            terminal.presses("\x03")
            assert terminal.ended() == 130
            assert "Stopped. Run it again to resume." in terminal.plain()
            assert "Traceback" not in terminal.said
    assert list((tmp_path / "out").rglob("*.artisync-part")) == []


def test_a_watched_pull_is_one_line_that_begins_anew_with_each_round(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    client = Client(sshd, root, tmp_path)
    with run(client, "pull", "exp-1", tmp_path / "out", "--watch", COLUMNS="80") as terminal:
        terminal.matches(r"Watching · [0-9:]{8} pulled 2 files, 12\.0 MiB · Ctrl-C stops")
        for number in (1, 2):
            (root / f"exp-1/checkpoints/epoch_{number}.pt").write_bytes(os.urandom(3 * MIB))
            terminal.matches(rf"Watching · [0-9:]{{8}} pulled 1 file, 3\.0 MiB, {number + 1} up to date")
        terminal.presses("\x03")
        assert terminal.ended() == 0
        shown = terminal.plain()
    assert all(int(done) <= int(whole) for done, whole in re.findall(r"\b(\d+)/(\d+) ", shown)), shown
    lines = [line for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Stopped."


def test_wait_says_what_it_sees(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    client = Client(sshd, root, tmp_path)
    with run(client, "wait", "exp-2", "--settle", "1s") as terminal:
        terminal.matches("exp-2 is not there yet")
        (root / "exp-2").mkdir()
        (root / "exp-2/f").write_bytes(b"x" * 1000)
        terminal.matches("waiting for 1 s without changes")
        assert terminal.ended() == 0
        assert "exp-2 is there: 1 file" in terminal.plain()


@needs_fuse
def test_status_is_a_live_view_until_ctrl_c(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    mounted = Mounted(sshd, root, tmp_path)
    with mounted as path, run(mounted, "status", "--watch", path) as terminal:
        terminal.matches("online")
        sshd.stop()
        terminal.matches("offline")
        terminal.presses("\x03")
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.said
