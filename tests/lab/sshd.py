"""A real sshd on loopback with keys of its own, for tests; as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.lab import processes
from tests.lab.processes import descendants
from vfs.base.address import Address

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair at `path` and `path`.pub."""
    quick = (["-a", "1"] if passphrase else []) + (["-b", "2048"] if kind == "rsa" else [])
    words = ["ssh-keygen", "-q", "-t", kind, *quick, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


def fingerprint(key: Path) -> str:
    """`SHA256:…`, as ssh-keygen tells it."""
    words = ["ssh-keygen", "-lf", f"{key}.pub"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[1]


def free_port() -> int:
    """A loopback port at which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Sshd:
    """`with Sshd(root) as server:` serves SFTP at `server.address` until the end of the block.

    It runs as the present user and lets that user in with `server.user_key`; paths over SFTP are those of
    this machine, `root` is where a test puts its files. `extra` are lines of sshd_config(5) that come first,
    and so win; `key_kind` is that of its key and of the user's; `by` are words that start it, as those of `setpriv`.
    The test is skipped where there is no sshd.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        extra: Sequence[str] = (),
        port: int | None = None,
        log_level: str = "VERBOSE",
        key_kind: str = "ed25519",
        by: Sequence[str] = (),
    ) -> None:
        if SSHD is None:
            pytest.skip("no sshd on this machine (Debian: openssh-server)")
        self._directory = tempfile.TemporaryDirectory(prefix="sshd-")
        self.directory = Path(self._directory.name)
        self.root = root if root is not None else self.directory / "root"
        self.root.mkdir(exist_ok=True)
        self.host_key = make_key(self.directory / "host_key", kind=key_kind)
        self.user_key = make_key(self.directory / "user_key", kind=key_kind)
        self.authorized_keys = self.directory / "authorized_keys"
        shutil.copy(f"{self.user_key}.pub", self.authorized_keys)
        self.port = free_port() if port is None else port
        self.user = getpass.getuser()
        self._by = by
        self.log: list[str] = []
        self._config = self.directory / "sshd_config"
        own_subsystem = any(line.startswith("Subsystem") for line in extra)
        # A program is started by the user's shell, which must not run the user's own start-up files first.
        subsystem = [f"SetEnv HOME={self.directory}" if own_subsystem else "Subsystem sftp internal-sftp"]
        self._config.write_text(
            "\n".join(
                [
                    *extra,
                    f"Port {self.port}",
                    "ListenAddress 127.0.0.1",
                    f"HostKey {self.host_key}",
                    f"AuthorizedKeysFile {self.authorized_keys}",
                    "PidFile none",
                    "StrictModes no",
                    "UsePAM no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin yes",
                    "UseDNS no",
                    "MaxStartups 200",
                    "MaxSessions 100",
                    f"LogLevel {log_level}",
                    *subsystem,
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> Address:
        """Where it is, with the key that it accepts."""
        return Address("127.0.0.1", self.port, self.user, (str(self.user_key),))

    @property
    def pid(self) -> int:
        """Of the server itself, above all that serve connections."""
        assert self._process is not None
        return self._process.pid

    @property
    def host_line(self) -> str:
        """Its line for a known_hosts file."""
        kind, blob = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {blob}\n"

    @property
    def fingerprint(self) -> str:
        """That of its host key."""
        return fingerprint(self.host_key)

    def authorize(self, key: Path) -> None:
        """Let this key in too."""
        with self.authorized_keys.open("a") as f:
            f.write(Path(f"{key}.pub").read_text())

    def new_host_key(self) -> None:
        """Have another host key from the next `start` on, as a new container behind the same port has."""
        for name in ("host_key", "host_key.pub"):
            (self.directory / name).unlink()
        make_key(self.host_key)

    def start(self) -> None:
        """Listen; returns once connections are taken. Also after a `stop`, on the same port."""
        assert self._process is None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        words = [*self._by, str(SSHD), "-D", "-e", "-f", str(self._config)]
        # a session that waits in an open of a FIFO does not end with its connection
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=processes.adopt,
        )
        listening = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, listening), daemon=True).start()
        if not listening.wait(20) or self._process.poll() is not None:
            said = "".join(self.log[-5:])
            self.stop()
            raise RuntimeError(f"sshd does not listen: {said}")

    def stop(self) -> None:
        """Stop listening and end all sessions at once. Idempotent."""
        if self._process is None:
            return
        processes.end(self._process)
        self._process = None

    def kill_sessions(self) -> None:
        """End the connections there are (the kernel closes their sockets); go on listening."""
        if self._process is not None:
            processes.kill(descendants(self._process.pid))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to all that serves connections."""
        assert self._process is not None
        for pid in (self._process.pid, *descendants(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def sessions(self) -> int:
        """How many processes serve connections."""
        return 0 if self._process is None else len(descendants(self._process.pid))

    def __enter__(self) -> Sshd:
        try:
            self.start()
        except BaseException:
            self._directory.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._directory.cleanup()

    def _read_log(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self.log.append(line)
                if line.startswith("Server listening"):
                    listening.set()
        listening.set()
