"""A mount that runs in the foreground as a child of the tests: ours, or one of the programs that are compared."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab.processes import descendants
from tests.lab.waiting import eventually

END_SECONDS = 15.0


class NotMounted(Exception):
    """The program ended, or mounted nothing in time; the text says what it said last."""


class ForegroundMount:
    """A running mount program. Raises NotMounted when `ready` does not become true within `seconds`."""

    def __init__(
        self,
        words: Sequence[str],
        path: Path,
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[], bool],
        seconds: float,
    ) -> None:
        self.path, self.log = path, log
        with log.open("a") as output:
            self.process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True
            )
        if not eventually(lambda: self.process.poll() is not None or ready(), seconds):
            self.end()
            raise NotMounted(f"is not mounted after {seconds:g} s")
        if self.process.poll() is not None:
            raise NotMounted(f"does not mount: {self.last_line() or f'exit {self.process.returncode}'}")

    def last_line(self) -> str:
        """What the program said last."""
        lines = self.log.read_text().strip().splitlines()
        return lines[-1][:300] if lines else ""

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def end(self) -> list[str]:
        """Unmount, gently first; what is left behind, in words. The process is gone afterwards in any case."""
        below = descendants(self.process.pid)
        unmount = [shutil.which("fusermount3") or "fusermount", "-u", str(self.path)]
        left = []
        if subprocess.run(unmount, capture_output=True, check=False).returncode:
            left.append("a mount that could not be ended gently")
            subprocess.run([*unmount, "-z"], capture_output=True, check=False)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            left.append("the mount's process")
            self.kill()
        remaining = [pid for pid in below if Path(f"/proc/{pid}").exists()]
        for pid in remaining:
            os.kill(pid, 9)
        return left + [f"process {pid}" for pid in remaining]
