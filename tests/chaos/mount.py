"""A mount of any of the programs that are compared, which can be killed and made again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tests.bench.lab import environment
from tests.bench.peers import Peer, Server
from tests.chaos.ledger import TTL
from tests.lab.foreground import ForegroundMount
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
        """Raises NotMounted when it is not mounted within half a minute."""
        assert self._peer.mount is not None
        words = self._peer.mount(self._server, self.path, self._place)
        if self.is_ours:
            limits = ["--timeout", str(TIMEOUT), "--ttl", f"{TTL:g}s", "--cache-size", "100MiB"]
            words[-1:-1] = limits
        self._running = ForegroundMount(
            words, self.path, self.log, environment(self._place), self._answers, 30
        )
        self.pid = self._running.process.pid

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
        (socket,) = (self._place / "artisync").glob("*.sock")  # not below the mount
        client.call(
            socket, "move", timeout=30, line=self._server.ssh_line(self._place), transport=self._transport
        )

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self._running.kill()

    def end(self) -> list[str]:
        """Unmount; what is left behind, in words."""
        return self._running.end() + [str(path) for path in self._place.rglob("*.sock")]
