"""Where it is measured: a directory, an sshd with one cipher, relays, mounts in the foreground, programs with a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.bench import programs
from tests.bench.peers import Peer, Server
from tests.bench.scale import Scale
from tests.lab.foreground import ForegroundMount, NotMounted
from tests.lab.processes import cpu_seconds, descendants, peak_resident
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from vfs.frontends.mountpoint import is_mounted

CIPHER = "aes128-gcm@openssh.com"
RATE_MBIT = 1000
MOUNT_SECONDS = 20.0


class Failed(Exception):
    """A peer did not do what was asked of it; the text says what it said."""


@dataclass(frozen=True, slots=True)
class View:
    """What a peer shows at `path`; `process` is the mount, None for the files themselves."""

    path: Path
    process: subprocess.Popen[str] | None

    @property
    def pids(self) -> list[int]:
        """The mount's process and those that it started."""
        if self.process is None:
            return []
        return [self.process.pid, *descendants(self.process.pid)]

    def cpu_seconds(self) -> float:
        """Processor time of the mount so far."""
        return cpu_seconds(self.pids)

    def peak_resident(self) -> int:
        """Bytes of memory that the mount had at most."""
        return peak_resident(self.pids)


class Lab:
    """`with Lab(scale) as lab:` has a server until the end of the block. Files on it are made when first asked for."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._directory = tempfile.TemporaryDirectory(prefix="artisync-bench-", ignore_cleanup_errors=True)
        self.place = Path(self._directory.name)
        self.sshd = Sshd(self.place / "artifacts", extra=[f"Ciphers {CIPHER}"], log_level="INFO")
        self.root = self.sshd.root
        self._places = 0

    def __enter__(self) -> Lab:
        self.sshd.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sshd.__exit__(kind, error, trace)
        self._directory.cleanup()

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file or directory of that name on the server; `make` makes it the first time."""
        path = self.root / name
        if not path.exists():
            make(path)
        return path

    def server(self, port: int | None = None, root: Path | None = None) -> Server:
        """The server itself, or as it is reached through a relay at `port`."""
        return Server(port or self.sshd.port, self.sshd.user, self.sshd.user_key, root or self.root)

    def relay(self, rtt_ms: float, rate_mbit: float = RATE_MBIT) -> Relay:
        """A link to the server: 6 MiB of one connection under way at most."""
        return Relay(self.sshd.port, rtt_ms, rate_mbit)

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A new directory for a cache and settings, emptied afterwards.

        Emptied, not deleted: ext4 passes over inodes that were deleted in the last minutes, one by one, when it makes a
        file, which would slow down whoever is measured next.
        """
        self._places += 1
        place = self.place / f"place-{self._places}"
        place.mkdir()
        try:
            yield place
        finally:
            for path in place.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    os.truncate(path, 0)

    @contextmanager
    def view(self, peer: Peer, server: Server, place: Path) -> Iterator[View]:
        """Mount with a peer; one that cannot mount shows the files themselves. Raises Failed."""
        if peer.mount is None:
            yield View(server.root, None)
            return
        mountpoint = place / "mnt"
        mountpoint.mkdir(exist_ok=True)
        log = place / "mount.log"
        words = peer.mount(server, mountpoint, place)
        try:
            running = ForegroundMount(
                words, mountpoint, log, environment(place), lambda: is_mounted(mountpoint), MOUNT_SECONDS
            )
        except NotMounted as error:
            raise Failed(str(error)) from error
        try:
            yield View(mountpoint, running.process)
        finally:
            running.end()

    def program(self, name: str, *arguments: object) -> dict[str, float]:
        """Run one of `programs` and wait for it. Raises Failed, also when it takes longer than the scale's limit."""
        return self.result(self.start(name, *arguments))

    def start(self, name: str, *arguments: object) -> subprocess.Popen[str]:
        """Start one of `programs`; `result` waits for it."""
        words = [sys.executable, "-P", programs.__file__, name, *map(str, arguments)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self, process: subprocess.Popen[str]) -> dict[str, float]:
        """What a program printed. Raises Failed."""
        try:
            out, complaint = process.communicate(timeout=self.scale.limit)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise Failed(f"takes more than {self.scale.limit:g} s") from error
        if process.returncode:
            raise Failed(_last_line(complaint) or f"exit {process.returncode}")
        result: dict[str, float] = json.loads(out)
        return result

    def timed(self, words: list[str], place: Path) -> tuple[float, str]:
        """Run a command: seconds, and its output. Raises Failed."""
        began = time.monotonic()
        try:
            done = subprocess.run(
                words,
                env=environment(place),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.scale.limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"takes more than {self.scale.limit:g} s") from error
        if done.returncode:
            raise Failed(_last_line(done.stderr) or f"exit {done.returncode}")
        return time.monotonic() - began, done.stdout


def environment(place: Path) -> dict[str, str]:
    """Ours, with settings in `place` and nothing of the user's own for artisync."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("ARTISYNC_", "RCLONE_"))
    }
    homes = {f"XDG_{name}_HOME": str(place / name.lower()) for name in ("CONFIG", "STATE", "CACHE")}
    return {**ours, **homes, "XDG_RUNTIME_DIR": str(place)}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else ""
