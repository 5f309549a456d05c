"""The real TensorBoard as a process, asked what its web page asks."""

from __future__ import annotations

import http.client
import importlib.util
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.lab.sshd import free_port


class TensorBoard:
    """`with TensorBoard(logdir) as board:` serves it at `board.url` until the end of the block.

    It looks for news every second. The test is skipped where TensorBoard is not installed.
    """

    def __init__(self, logdir: Path, log: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            pytest.skip("no TensorBoard in this environment (pip install tensorboard)")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", f"--port={self.port}"),
                    *("--host=127.0.0.1", "--reload_interval=1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def steps(self, tag: str, run: str = ".") -> list[int]:
        """The steps of a scalar that it serves now; none before it is up, or before it knows the tag."""
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        return [step for _, step, _ in self._get(f"data/plugin/scalars/scalars?{query}") or []]

    def tags(self) -> dict[str, list[str]]:
        """The scalars' tags by run."""
        return {run: sorted(tags) for run, tags in (self._get("data/plugin/scalars/tags") or {}).items()}

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError):
            assert self._process.poll() is None, "TensorBoard has ended"
            return None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
