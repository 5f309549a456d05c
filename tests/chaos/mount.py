"""A mount of any of the programs that are compared, which can be killed and made again."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.bench.lab import environment
from tests.bench.peers import Peer, Server
from tests.chaos.ledger import TTL
from tests.lab.processes import descendants
from vfs.control import client

TIMEOUT = 10
"""Seconds: `--timeout` of artisync here."""


class Mount:
    """`peer` over `server`, below `place`; `start` returns once it is mounted."""

    def __init__(self, peer: Peer, server: Server, place: Path) -> None:
        self._peer, self._server, self._place = peer, server, place
        self.is_ours = peer.name.startswith("artisync")
        self._transport = peer.name.partition("-")[2]
        self.path = place / "mnt"
        self.cache = place / "cache"
        self.log = place / "mount.log"
        self.path.mkdir()
        self.pid = 0

    def start(self) -> None:
        """Raises RuntimeError when it is not mounted within half a minute."""
        assert self._peer.mount is not None
        words = self._peer.mount(self._server, self.path, self._place)
        if self.is_ours:
            limits = ["--timeout", str(TIMEOUT), "--ttl", f"{TTL:g}s", "--cache-size", "100MiB"]
            words[-1:-1] = limits
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                words, env=environment(self._place), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.pid = self._process.pid
        end = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"not mounted: {self.log.read_text()[-500:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether it lists its root; of a dead mount the kernel still knows that it is one."""
        try:
            return bool(os.listdir(self.path))
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send it to the mount's process."""
        os.kill(self.pid, number)

    def move(self, port: int) -> None:
        """The server is at this port, as `artisync connect` tells a live mount."""
        self._server = dataclasses.replace(self._server, port=port)
        (socket,) = self._place.rglob("*.sock")
        client.call(
            socket, "move", timeout=30, line=self._server.ssh_line(self._place), transport=self._transport
        )

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def end(self) -> list[str]:
        """Unmount; what is left behind, in words."""
        below = descendants(self.pid)
        unmount = [shutil.which("fusermount3") or "fusermount", "-u", str(self.path)]
        left = []
        if subprocess.run(unmount, capture_output=True, check=False).returncode:
            left.append("a mount that could not be ended gently")
            subprocess.run([*unmount, "-z"], capture_output=True, check=False)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            left.append("the mount's process")
            self.kill()
        left += [f"process {pid}" for pid in below if Path(f"/proc/{pid}").exists()]
        left += [str(path) for path in self._place.rglob("*.sock")]
        return left
