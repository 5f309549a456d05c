"""A real Chromium without a window, driven over the pipe of its DevTools protocol.

Protocol: https://chromedevtools.github.io/devtools-protocol/ ; with `--remote-debugging-pipe` the browser reads JSON
messages from descriptor 3 and writes them to 4, each ended by a NUL byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.lab.waiting import readable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """`with Chromium() as page:` a browser with one page. The test is skipped where there is none."""

    def __init__(self) -> None:
        if CHROMIUM is None:
            pytest.skip("no Chromium on this machine (Debian: chromium)")
        self._directory = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        words = [
            CHROMIUM,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._directory.name}",
            "--window-size=1280,1000",
            "--no-first-run",
            # without WebGL, TensorBoard draws its curves as paths of SVG, which can be looked at
            "--disable-gpu",
            "--disable-3d-apis",
            "--disable-dev-shm-usage",
            # its sandbox needs user namespaces, which root and containers do not have
            "--no-sandbox",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HOME": self._directory.name},
            start_new_session=True,
        )
        self._received = b""
        self._number = 0
        self._session: str | None = None

    def open(self, url: str) -> None:
        """Go to a page; returns before it is loaded."""
        self._call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, by JSON."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The page as a PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command's result. Its events are passed over."""
        assert self._process.stdin is not None
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        end = time.monotonic() + 60
        while True:
            answer = self._read(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, end: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._received:
            assert readable(self._process.stdout, end - time.monotonic()), "Chromium does not answer"
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, "Chromium has ended"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def __enter__(self) -> Chromium:
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Ends with its pipe; a browser that does not is killed with its children."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()
