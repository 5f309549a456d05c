"""A user's machine for tests: the `artisync` command with a home of its own, and a server that it talks to."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.sshd import Sshd
from tests.lab.terminal import Terminal
from vfs.base.address import Address


class Client:
    """Commands of somebody who reaches `root` of the server; configuration, state and cache are below `place`."""

    def __init__(self, sshd: Sshd, root: Path, place: Path, *, port: int | None = None) -> None:
        """`port`: that of a relay in front of the server."""
        self.root = root
        self.place = place
        self.cache = place / "cache"
        self._started: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(place / "config"),
            "XDG_STATE_HOME": str(place / "state"),
            "XDG_RUNTIME_DIR": str(place),
            "PYTHONFAULTHANDLER": "1",  # a crash in C says where
        }
        # The user's own known_hosts may know another key at this port.
        options_of_ssh = (("UserKnownHostsFile", str(place / "no_known_hosts")),)
        self.address: Address = dataclasses.replace(
            sshd.address, options=options_of_ssh, port=port or sshd.port
        )
        self.server = [
            "--ssh",
            self.address.line(),
            "--remote-root",
            str(root),
            "--cache-dir",
            str(self.cache),
        ]

    def artisync(
        self, *words: str | Path, timeout: float = 60, under: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user would; `under` are the words of a program that runs it in its turn."""
        return subprocess.run(
            [*under, sys.executable, "-m", "vfs", *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def at_terminal(self, *words: str | Path, **environment: str) -> Terminal:
        """Run a command on a terminal, with these variables besides the user's."""
        return Terminal([sys.executable, "-m", "vfs", *map(str, words)], {**self.environment, **environment})

    def ask(self, command: str, *words: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to the server."""
        done = self.artisync(command, *self.server, "--accept-new-host-key", *words, timeout=timeout)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, command: str, *words: str | Path) -> subprocess.Popen[str]:
        """Start such a command and go on."""
        process = subprocess.Popen(
            [sys.executable, "-m", "vfs", command, *self.server, "--accept-new-host-key", *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what was started and still runs, as after a test that failed."""
        for process in self._started:
            process.terminate()
            process.wait(30)
