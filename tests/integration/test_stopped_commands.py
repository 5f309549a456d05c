"""Our own commands on a terminal: Ctrl-Z, `fg` and a window whose size changes end none of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import settle
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

FILES = 12
SIZE = 300_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for number in range(FILES):
        path = root / f"exp/{number}/file.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([number]) * SIZE)
        settle(path)
    return root


@pytest.fixture(params=["paramiko", "openssh"])
def client(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Sshd() as sshd, Relay(sshd.port, rtt_ms=60) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        client.server += ["--transport", request.param]
        yield client


def disturbed(client: Client, command: str, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command that is stopped, goes on and has its window's size changed until it ends."""
    with (
        tempfile.TemporaryFile() as out,  # a pipe that nobody reads meanwhile would hold it up
        subprocess.Popen(
            [sys.executable, "-m", "vfs", command, *client.server, "--accept-new-host-key", *map(str, words)],
            env=client.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        try:
            for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD) * 200:
                if process.poll() is not None:
                    break
                process.send_signal(number)
                time.sleep(0.03)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
        out.seek(0)
        return subprocess.CompletedProcess(process.args, process.returncode, out.read(), err)


def test_a_pull_that_is_stopped_and_goes_on_brings_everything(client: Client, tmp_path: Path) -> None:
    done = disturbed(client, "pull", "exp", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    copied = sorted((tmp_path / "copy").rglob("file.bin"))
    assert len(copied) == FILES
    for path in copied:
        assert path.read_bytes() == bytes([int(path.parent.name)]) * SIZE


def test_a_cat_that_is_stopped_and_goes_on_writes_every_byte_once(client: Client) -> None:
    done = disturbed(client, "cat", *(f"exp/{number}/file.bin" for number in range(3)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(bytes([number]) * SIZE for number in range(3))


def test_a_wait_that_is_stopped_and_goes_on_sees_the_experiment(client: Client) -> None:
    done = disturbed(client, "wait", "exp", "--settle", "1s")
    assert done.returncode == 0, done.stderr
    assert f"{FILES} files".encode() in done.stderr
