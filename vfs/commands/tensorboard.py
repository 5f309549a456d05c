"""TensorBoard over several experiments: a directory of links, one for each run, and the process that reads it.

Blocking; the main thread only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vfs.base import reexec
from vfs.base.errors import PortForbidden, PortInUse, TensorBoardFailed, TensorBoardMissing
from vfs.files.experiments import choose

FIRST_PORT = 6006
LOOK_SECONDS = 5.0
"""How often new experiments are looked for; TensorBoard looks for new runs as often."""
START_SECONDS = 120.0
STOP_SECONDS = 5.0
"""How long TensorBoard may take to end before it is killed."""


def program() -> list[str]:
    """The words that start TensorBoard. Raises TensorBoardMissing."""
    beside = Path(sys.executable).with_name("tensorboard")
    found = shutil.which("tensorboard") or (str(beside) if beside.exists() else None)
    if found is not None:
        return [found]
    if importlib.util.find_spec("tensorboard") is not None:
        return [sys.executable, "-m", "tensorboard.main"]
    raise TensorBoardMissing("TensorBoard is not installed")


def choose_port(wanted: int | None) -> int:
    """`wanted` if it is free, or the first free one from 6006 on. Raises PortInUse, PortForbidden."""
    for port in range(wanted or FIRST_PORT, (wanted or FIRST_PORT + 100) + 1):
        try:
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(("127.0.0.1", port))
                return port
        except PermissionError as error:
            raise PortForbidden(f"this user may not listen on port {port}") from error
        except OSError:
            continue
    raise PortInUse(f"port {wanted or FIRST_PORT} is in use")


class Runs:
    """A log directory with a symlink for each experiment, named as the experiment, to its `tensorboard` directory."""

    def __init__(self, directory: Path, root: Path, names: Sequence[str]) -> None:
        """`root` holds the experiments; without `names`, all of them and those that come are shown.

        Raises NoSuchExperiment, AmbiguousExperiment.
        """
        self.directory = directory
        self._root = root
        self._names = [choose(name, self._experiments()) for name in names]

    def update(self) -> list[str]:
        """Link new experiments; the names of those that have no runs yet."""
        missing = []
        for name in self._names or self._experiments():
            target, symlink = self._root / name / "tensorboard", self.directory / name
            if not target.is_dir():
                missing.append(name)
            elif not symlink.is_symlink():
                symlink.symlink_to(target, target_is_directory=True)
        return missing

    def _experiments(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())
        except OSError:
            return []


@contextlib.contextmanager
def running(runs: Runs, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """TensorBoard at http://localhost:`port`/, answering; ended with the block. Raises TensorBoardFailed."""
    with tempfile.TemporaryFile() as said:
        words = [*program(), "--logdir", str(runs.directory), "--port", str(port)]
        # in a session of its own: a Ctrl-C on the terminal is ours to deal with
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            _await_answer(process, port, lambda: _last_words(said.fileno()))
            yield process
            if process.poll() is not None:
                raise TensorBoardFailed(_last_words(said.fileno()))
        finally:
            reexec.end(process, STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # its data server
                os.killpg(process.pid, 9)


def serve(runs: Runs, process: subprocess.Popen[bytes]) -> None:
    """Keep the runs up to date until TensorBoard ends."""
    while True:
        try:
            process.wait(LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            runs.update()


def _await_answer(process: subprocess.Popen[bytes], port: int, said: Callable[[], str]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                return
        else:
            raise TensorBoardFailed(said())
    raise TensorBoardFailed(f"it did not answer within {START_SECONDS:g} s: {said()}")


def _last_words(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, 2000, max(0, size - 2000)).decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-5:]) or "it printed nothing"
