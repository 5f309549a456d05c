"""A real rsync brings files to the server while programs hold them open in the mount."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_programs import tail
from tests.lab.mounted import needs_fuse
from tests.lab.tensorboard import TensorBoard
from tests.lab.waiting import eventually

pytestmark = needs_fuse

SOON = 3.0
"""Seconds; the mount's TTL is half a second."""
WAYS = pytest.mark.parametrize(
    "options", [(), ("--inplace", "--no-whole-file")], ids=["renamed into place", "in place"]
)


def sync(source: Path, to: Path, options: tuple[str, ...]) -> None:
    """What a sync tool does: everything that changed, with its times."""
    subprocess.run(["rsync", "-a", *options, f"{source}/", f"{to}/"], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where the training writes, from where it is synced to the server."""
    path = tmp_path / "training"
    for name in ("checkpoints", "tensorboard", "logs"):
        (path / name).mkdir(parents=True)
    return path


@WAYS
def test_an_open_file_shows_what_a_sync_appended(
    source: Path, experiment: Path, shown: Path, options: tuple[str, ...]
) -> None:
    log = source / "logs/console.log"
    log.write_bytes(b"".join(b"step %d\n" % step for step in range(1000)))
    sync(source, experiment, options)
    assert eventually((shown / "logs/console.log").exists)
    with (shown / "logs/console.log").open("rb", buffering=0) as follower:
        assert follower.readall() == log.read_bytes()
        for step in range(3):
            news = b"news %d\n" % step * 50
            with log.open("ab") as file:
                file.write(news)
            sync(source, experiment, options)
            assert gives(follower, news)


def gives(follower: io.FileIO, news: bytes) -> bool:
    """Whether a file that was read to its end goes on with exactly that, soon."""
    got = bytearray()

    def arrived() -> bool:
        got.extend(follower.readall())
        return len(got) >= len(news)

    return eventually(arrived, SOON) and got == news


@WAYS
def test_tail_follows_a_log_that_is_synced(
    source: Path, experiment: Path, shown: Path, options: tuple[str, ...]
) -> None:
    log = source / "logs/console.log"
    log.write_bytes(b"first\n")
    sync(source, experiment, options)
    assert eventually((shown / "logs/console.log").exists)
    with tail("-n", "+1", "-s", "0.1", "-f", shown / "logs/console.log") as follower:
        assert follower.says(b"first\n")
        for step in range(3):
            with log.open("ab") as file:
                file.write(b"line %d\n" % step)
            sync(source, experiment, options)
            assert follower.says(log.read_bytes())


@WAYS
def test_tensorboard_goes_on_with_event_files_that_are_synced(
    source: Path, experiment: Path, shown: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    summary = pytest.importorskip("tensorboard.summary", reason="no TensorBoard in this environment")
    writer = summary.Writer(str(source / "tensorboard"))
    steps = iter(range(1, 1000))

    def train(count: int) -> int:
        for _ in range(count):
            step = next(steps)
            writer.add_scalar("loss", 1 / step, step)
        writer.flush()
        sync(source, experiment, options)
        return step

    train(20)
    with TensorBoard(shown / "tensorboard", tmp_path / "log") as board:
        assert eventually(lambda: board.steps("loss") == list(range(1, 21)), 30)
        for _ in range(3):
            last = train(10)
            assert eventually(lambda last=last: board.steps("loss") == list(range(1, last + 1)), 15)
    writer.close()


def test_a_checkpoint_that_is_synced_anew_is_the_new_one_and_whole(
    source: Path, experiment: Path, shown: Path
) -> None:
    model = source / "checkpoints/best_model.pt"
    for step in range(3):
        model.write_bytes(b"%08d" % step * (1 << 18))
        sync(source, experiment, ("--inplace", "--no-whole-file") if step == 2 else ())
        want = model.read_bytes()
        assert eventually(lambda want=want: _read(shown / "checkpoints/best_model.pt") == want, 6)


def _read(path: Path) -> bytes:
    """The bytes, none where it is not there or was replaced just now; never those of two versions."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    assert len({data[at : at + 8] for at in range(0, len(data), 8)}) == 1
    return data
