"""`prefetch`, `pin`, `cat`, `wait` and `tensorboard` against a real sshd, with and without a mount."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import Mounted, needs_fuse, settle, write
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd, free_port
from tests.lab.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for name in ("exp-1", "exp-2"):
        for part, size in (
            ("checkpoints/best_model.pt", 2 * MIB),
            ("tensorboard/events.out.tfevents.1.h", 5000),
        ):
            write(root / name / part, os.urandom(size))
    return root


class Following:
    """A command whose output is collected while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while text := self.process.stdout.readline():
            self.out += text

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(15)


# --- prefetch and pin -----------------------------------------------------------------------------------------------


@needs_fuse
def test_what_a_live_mount_prefetched_is_read_without_the_server(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    mounted = Mounted(sshd, root, tmp_path)
    with mounted as path:
        done = mounted.artisync("prefetch", path / "exp-1")
        assert (done.returncode, done.stderr) == (0, "Fetched 2 files, 2.0 MiB.\n")
        sshd.stop()
        model = "exp-1/checkpoints/best_model.pt"
        assert (path / model).read_bytes() == (root / model).read_bytes()
        assert os.getxattr(path / model, "user.artisync.state") in (b"cached", b"stale")
        assert os.getxattr(path / model, "user.artisync.pinned") == b"no"


@needs_fuse
def test_a_pin_is_shown_and_stays_with_a_file_that_is_replaced(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    mounted = Mounted(sshd, root, tmp_path)
    with mounted as path:
        done = mounted.artisync("pin", path / "exp-1", "--json")
        assert (done.returncode, json.loads(done.stdout)["files"]) == (0, 2)
        model = path / "exp-1/checkpoints/best_model.pt"
        assert os.getxattr(model, "user.artisync.pinned") == b"yes"
        new = root / "exp-1/checkpoints/new"
        new.write_bytes(os.urandom(MIB))
        settle(new)
        new.rename(root / "exp-1/checkpoints/best_model.pt")
        assert eventually(lambda: model.stat().st_size == MIB)
        model.read_bytes()
        assert os.getxattr(model, "user.artisync.pinned") == b"yes"
        assert mounted.artisync("unpin", path / "exp-1").stderr == "Unpinned 2 files.\n"
        assert os.getxattr(model, "user.artisync.pinned") == b"no"


def test_what_was_prefetched_without_a_mount_moves_no_more_data(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    with Relay(sshd.port) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        assert client.ask("prefetch", "exp-1", "exp-2/checkpoints/best_model.pt").returncode == 0
        before = relay.bytes_down()
        assert before > 4 * MIB
        done = client.ask("pull", "--all", tmp_path / "out", "--only", "checkpoints")
        assert done.returncode == 0
        assert relay.bytes_down() - before < 64 << 10


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("exp-1/nothing.pt", "there is no exp-1/nothing.pt"),
        ("exp_1", "did you mean exp-1"),
        ("./not/mounted", "is not in a live mount"),
    ],
)
def test_a_path_that_is_not_there_is_told(client: Client, path: str, says: str) -> None:
    done = client.ask("prefetch", path)
    assert done.returncode == 1
    assert says in done.stderr


# --- cat ------------------------------------------------------------------------------------------------------------


def test_cat_writes_the_bytes(client: Client, root: Path) -> None:
    name = "exp-1/checkpoints/best_model.pt"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "vfs",
            "cat",
            *client.server,
            "--accept-new-host-key",
            name,
            name.replace("exp-1", "exp-2"),
        ],
        env=client.environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout == (root / name).read_bytes() + (root / name.replace("exp-1", "exp-2")).read_bytes()
    os.mkfifo(root / "exp-1/fifo")
    assert "exp-1/fifo is a FIFO" in client.ask("cat", "exp-1/fifo").stderr


def test_cat_into_a_reader_that_leaves_says_nothing(client: Client) -> None:
    words = " ".join([sys.executable, "-m", "vfs", "cat", *(f"'{word}'" for word in client.server)])
    done = subprocess.run(
        f"{words} --accept-new-host-key exp-1/checkpoints/best_model.pt | head -c 10 | wc -c",
        shell=True,
        env=client.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("10", "")


def test_cat_follows_a_file_that_grows_and_one_that_is_replaced(client: Client, root: Path) -> None:
    log = root / "exp-1/console.log"
    log.write_text("epoch 1\n")
    following = Following(client.start("cat", "--follow", "exp-1/console.log"))
    assert eventually(lambda: following.out == "epoch 1\n", 15)
    with log.open("a") as f:
        f.write("epoch 2\n")
    assert eventually(lambda: following.out == "epoch 1\nepoch 2\n", 15)
    new = root / "exp-1/new.log"
    new.write_text("again 1\n")
    new.rename(log)
    assert eventually(lambda: following.out == "epoch 1\nepoch 2\nagain 1\n", 15)
    assert following.stop() == 0


# --- wait -----------------------------------------------------------------------------------------------------------


def test_wait_returns_when_a_sync_has_come_and_is_over(client: Client, root: Path) -> None:
    waiting = client.start("wait", "exp-3", "--settle", "2s", "--json")
    assert waiting.stderr is not None
    assert "exp-3 is not there yet; on the server: exp-1, exp-2" in waiting.stderr.readline()
    (root / "exp-3/logs").mkdir(parents=True)
    (root / "exp-3/logs/console.log").write_text("epoch 1\n")
    assert "waiting for 2 s without changes" in waiting.stderr.readline()
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert json.loads(out)["files"] == 1


def test_wait_for_whole_checkpoints(client: Client, root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.pt", "w") as archive:
        archive.writestr("archive/data.pkl", os.urandom(50_000))
    whole = (tmp_path / "whole.pt").read_bytes()
    cut = root / "exp-3/checkpoints/best_model.pt"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole[:30_000])
    settle(cut)
    waiting = client.start("wait", "exp-3", "--settle", "1s", "--complete")
    assert waiting.stderr is not None
    for line in waiting.stderr:
        if "incomplete: best_model.pt" in line:
            break
    cut.write_bytes(whole)
    assert waiting.wait(30) == 0


def test_wait_gives_up(client: Client) -> None:
    done = client.ask("wait", "exp-9", "--timeout", "1s")
    assert done.returncode == 1
    assert "exp-9 is not there yet" in done.stderr


# --- tensorboard ----------------------------------------------------------------------------------------------------


def stub(tmp_path: Path, program: str) -> dict[str, str]:
    """A PATH on which `tensorboard` is this Python program."""
    path = tmp_path / "bin/tensorboard"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}:{os.environ['PATH']}"}


SERVES = """
import http.server, os, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
os.chdir(words["--logdir"])
http.server.ThreadingHTTPServer(("127.0.0.1", int(words["--port"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@needs_fuse
def test_tensorboard_gets_each_experiment_by_its_name_and_leaves_nothing_behind(
    client: Client, root: Path, tmp_path: Path
) -> None:
    client.environment |= stub(tmp_path, SERVES) | {"TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    port = free_port()
    running = Following(client.start("tensorboard", "--port", str(port)))
    url = f"http://localhost:{port}/"
    assert eventually(lambda: running.out == f"{url}\n", 30)

    def fetched(name: str) -> bytes:
        with urllib.request.urlopen(f"{url}{name}/events.out.tfevents.1.h", timeout=10) as answer:
            data: bytes = answer.read()
            return data

    for name in ("exp-1", "exp-2"):
        assert fetched(name) == (root / name / "tensorboard/events.out.tfevents.1.h").read_bytes()
    later = root / "exp-3/tensorboard/events.out.tfevents.1.h"
    later.parent.mkdir(parents=True)
    later.write_bytes(b"later")

    def has_come() -> bool:
        try:
            return fetched("exp-3") == b"later"
        except OSError:
            return False

    assert eventually(has_come, 20)
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 10
    assert list((tmp_path / "temporary").iterdir()) == []
    assert str(tmp_path / "temporary") not in Path("/proc/self/mountinfo").read_text()


def test_tensorboard_reads_a_copy_where_nothing_can_be_mounted(
    client: Client, root: Path, tmp_path: Path
) -> None:
    client.environment |= stub(tmp_path, SERVES)
    port = free_port()
    program = (
        "import sys\n"
        "from vfs.base.errors import FuseMissing\n"
        "from vfs.frontends.fuse import available\n"
        "def check(**_): raise FuseMissing('there is no FUSE')\n"
        "available.check_fuse = check\n"
        "from vfs.cli import main\n"
        "main()\n"
    )
    words = ["tensorboard", *client.server, "--accept-new-host-key", "exp-1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=client.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Following(process)
    assert eventually(lambda: running.out == f"http://localhost:{port}/\n", 30)
    name = "exp-1/events.out.tfevents.1.h"
    with urllib.request.urlopen(f"http://localhost:{port}/{name}", timeout=10) as answer:
        assert answer.read() == (root / "exp-1/tensorboard/events.out.tfevents.1.h").read_bytes()
    assert running.stop() == 0


@needs_fuse
def test_a_tensorboard_that_dies_is_quoted(client: Client, tmp_path: Path) -> None:
    client.environment |= stub(tmp_path, "import sys; sys.exit('no module named six')")
    done = client.ask("tensorboard", "exp-1", "--port", str(free_port()))
    assert done.returncode == 1
    assert "no module named six" in done.stderr


def test_no_tensorboard_and_no_port(client: Client, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        client.environment |= stub(tmp_path, SERVES)
        done = client.ask("tensorboard", "exp-1", "--port", str(taken.getsockname()[1]))
        assert done.returncode == 1
        assert "is in use" in done.stderr


@needs_fuse
def test_tensorboard_of_an_experiment_that_is_not_there(client: Client, tmp_path: Path) -> None:
    client.environment |= stub(tmp_path, SERVES)
    done = client.ask("tensorboard", "exp_1", "--port", str(free_port()))
    assert done.returncode == 1
    assert "did you mean exp-1" in done.stderr
