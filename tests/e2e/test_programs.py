"""What people type in a shell, over a mount."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.mounted import needs_fuse, settle
from tests.lab.waiting import eventually, readable

pytestmark = needs_fuse

SOON = 10.0
"""Seconds; the mount's TTL and tail's own interval are 3 of them."""


class Tail:
    """A `tail -f` and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.said = b""

    def says(self, text: bytes) -> bool:
        """Whether it has said exactly that so far, within a while."""
        assert self._process.stdout is not None
        end = time.monotonic() + SOON
        while len(self.said) < len(text):
            if not readable(self._process.stdout, end - time.monotonic()):
                break
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                break
            self.said += more
        return self.said == text


@contextmanager
def tail(*words: str | Path) -> Iterator[Tail]:
    process = subprocess.Popen(["tail", *words], stdout=subprocess.PIPE)
    try:
        yield Tail(process)
    finally:
        process.kill()
        process.communicate()


def test_tail_follows_a_log_that_grows(experiment: Path, shown: Path) -> None:
    log = experiment / "logs/console.log"
    written = b"".join(b"step %d\n" % step for step in range(100))
    log.write_bytes(written)
    assert eventually((shown / "logs/console.log").exists)
    words = ["-n", "+1", "-s", "0.1", "-f", shown / "logs/console.log"]
    with tail(*words) as follower, log.open("ab", buffering=0) as run:
        assert follower.says(written)
        for more in (b"half a li", b"ne\n", b"x" * 300_000 + b"\n"):
            run.write(more)
            written += more
            assert follower.says(written)


def test_an_experiment_is_copied_as_it_is(experiment: Path, shown: Path, tmp_path: Path) -> None:
    (experiment / "logs/console.log").write_text("hello\n")
    (experiment / "checkpoints/epoch_1.pt").write_bytes(os.urandom(3 << 20))
    (experiment / "tensorboard/empty").touch()
    for path in experiment.rglob("*"):
        settle(path)
    assert eventually((shown / "tensorboard/empty").exists)
    subprocess.run(["cp", "-r", shown, tmp_path / "copy"], check=True)
    subprocess.run(["diff", "-r", experiment, tmp_path / "copy"], check=True)
