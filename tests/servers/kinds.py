"""The servers of the matrix: how each is started on loopback, with keys of its own. `KINDS` has them by name.

Those of other packages come from places that `scripts/servers` makes; without it they are skipped.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import processes, sftp_between, sftp_filter
from tests.lab.sshd import Sshd, free_port, make_key
from vfs.base.address import Address

PLACE = Path(os.environ.get("ARTISYNC_SERVERS", "/nonexistent"))
"""What `scripts/servers` made: `debian/` unpacked packages, `venv/`, `node_modules/`."""
PROGRAMS = Path(__file__).parent / "programs"
SFTP_SERVER = sftp_between.SFTP_SERVER
BOUNDED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
"""How each server is started, so that root, too, is denied what a file's mode denies its owner."""


class Server:
    """One server over `root`, which is made. `remote_root`: where the client finds that; `transport`: by which."""

    transport = "paramiko"

    def __init__(self, place: Path, root: Path | None = None) -> None:
        self.place = place
        self.root = root or place / "artifacts"
        self.root.mkdir(exist_ok=True)
        self.remote_root = self.root
        self.port = free_port()
        self.user = getpass.getuser()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port, self.user, (str(self.user_key),))

    @property
    def user_key(self) -> Path:
        return self.place / "user_key"

    def start(self) -> None:
        """Listen. Skips the test where the server is not installed."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop, and end all connections. Idempotent."""
        raise NotImplementedError


class OpenSsh(Server):
    """OpenSSH's sshd with lines of sshd_config."""

    def __init__(self, place: Path, *lines: str, root: Path | None = None, key_kind: str = "ed25519") -> None:
        super().__init__(place, root)
        self._key_kind = key_kind
        self._lines = [line.replace("@ROOT@", str(root)) for line in lines]
        self._sshd: Sshd | None = None

    @property
    def user_key(self) -> Path:
        assert self._sshd is not None
        return self._sshd.user_key

    def start(self) -> None:
        if self._sshd is None:
            self._sshd = Sshd(
                self.root, extra=self._lines, port=self.port, key_kind=self._key_kind, by=BOUNDED
            )
        self._sshd.start()

    def stop(self) -> None:
        if self._sshd is not None:
            self._sshd.stop()


class Chroot(OpenSsh):
    """The root is all that there is; /proc is not, so that no clock is told."""

    def __init__(self, place: Path) -> None:
        if os.getuid() != 0:
            pytest.skip("ChrootDirectory needs root")
        # sshd wants every directory above it to be root's alone, which those of tests are not
        self._directory = tempfile.TemporaryDirectory(prefix="artisync-chroot-", dir="/run")
        root = Path(self._directory.name)
        root.chmod(0o755)
        super().__init__(place, "ChrootDirectory @ROOT@", root=root)
        self.remote_root = Path("/")


@dataclass
class Program:
    """A server that is a program: its words, given the port, the host key and the authorized keys."""

    words: Callable[[Server, Path, Path], Sequence[str | Path]]
    needs: Path
    transport: str = "paramiko"
    prepare: Callable[[Server, Path, Path], None] = lambda server, key, authorized: None
    remote_root: Path | None = None
    """Where the client finds the root, if that is not its path here."""
    under_home: bool = False
    """It looks for the authorized keys in the user's home: they are put over it in a mount namespace of its own."""


class OfProgram(Server):
    """A server that runs as a program of its own."""

    def __init__(self, place: Path, program: Program) -> None:
        super().__init__(place)
        self._program = program
        self.transport = program.transport
        self.remote_root = program.remote_root or self.root
        self._process: subprocess.Popen[bytes] | None = None
        if not program.needs.exists():
            pytest.skip(f"{program.needs.name} is not installed (scripts/servers installs it)")
        if program.under_home and os.getuid() != 0:
            pytest.skip("needs root, to give the user another home")
        self._host_key = make_key(place / "host_key")
        key = make_key(place / "user_key")
        self._home = place / "home"
        self._home.mkdir(mode=0o700)
        self._authorized = self._home / "authorized_keys"
        shutil.copy(f"{key}.pub", self._authorized)
        self._authorized.chmod(0o600)
        program.prepare(self, self._host_key, self._authorized)

    def start(self) -> None:
        words = [str(word) for word in self._program.words(self, self._host_key, self._authorized)]
        if self._program.under_home:
            home = Path.home() / ".ssh"
            # its namespace has a copy of each mount, and would keep those of ours, and their processes, when they end
            script = f'umount -ila -t fuse.artisync; mount --bind "{self._home}" "{home}" && exec "$@"'
            words = ["unshare", "-m", "sh", "-c", script, "sh", *words]
        log = (self.place / "server.log").open("ab")
        self._process = subprocess.Popen(
            [*BOUNDED, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            preexec_fn=processes.adopt,
        )
        end = time.monotonic() + 20
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError((self.place / "server.log").read_text(errors="replace")[-1000:])

    def stop(self) -> None:
        if self._process is not None:
            processes.end(self._process)
            self._process = None


def _environment() -> dict[str, str]:
    """For programs of unpacked packages."""
    libraries = str(PLACE / "debian/usr/lib/x86_64-linux-gnu")
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "NODE_PATH": str(PLACE / "node_modules")}


def _python(name: str) -> Program:
    python = PLACE / "venv/bin/python"
    return Program(
        lambda server, key, authorized: [
            python,
            PROGRAMS / f"with_{name}.py",
            str(server.port),
            key,
            authorized,
        ],
        python,
    )


def _debian(path: str) -> Path:
    return PLACE / "debian" / path


def _dropbear_key(server: Server, key: Path, authorized: Path) -> None:
    words = [_debian("usr/bin/dropbearconvert"), "openssh", "dropbear", key, server.place / "dropbear_key"]
    subprocess.run(words, check=True, capture_output=True, env=_environment())


def _erlang_key(server: Server, key: Path, authorized: Path) -> None:
    shutil.copy(key, authorized.parent / "ssh_host_ed25519_key")


def _erlang(server: Server, key: Path, authorized: Path) -> Sequence[str | Path]:
    home = _debian("usr/lib/erlang")
    binaries = next(home.glob("erts-*/bin"))
    places = [f"ROOTDIR={home}", f"BINDIR={binaries}", "EMU=beam", "PROGNAME=erl"]
    script = f'{{ok, _}} = file:script("{PROGRAMS / "with_erlang.erl"}").'
    words = ["-noinput", "+fnui", "-eval", script, "-extra"]
    return ["env", *places, binaries / "erlexec", *words, str(server.port), authorized.parent]


def _tinysshd_keys(server: Server, key: Path, authorized: Path) -> None:
    words = [_debian("usr/sbin/tinysshd-makekey"), server.place / "tinysshd"]
    subprocess.run(words, check=True, capture_output=True)


def _proftpd(server: Server, key: Path, authorized: Path) -> None:
    keys = server.place / "rfc4716"
    keys.write_bytes(
        subprocess.run(["ssh-keygen", "-e", "-f", authorized], check=True, capture_output=True).stdout
    )
    lines = [
        f"ModulePath {_debian('usr/lib/proftpd')}",
        "LoadModule mod_sftp.c",
        "ServerType standalone",
        "DefaultAddress 127.0.0.1",
        "SocketBindTight on",
        f"Port {server.port}",
        "User root",
        "Group root",
        "RootLogin on",
        "RequireValidShell off",
        "UseReverseDNS off",
        "WtmpLog off",
        f"PidFile {server.place / 'pid'}",
        f"ScoreboardFile {server.place / 'scoreboard'}",
        "SystemLog none",
        "SFTPEngine on",
        f"SFTPHostKey {key}",
        f"SFTPAuthorizedUserKeys file:{keys}",
        "SFTPAuthMethods publickey",
        "MaxLoginAttempts 10",
    ]
    (server.place / "proftpd.conf").write_text("\n".join(lines) + "\n")


PROGRAM_KINDS: dict[str, Program] = {
    "asyncssh": _python("asyncssh"),
    "paramiko": _python("paramiko"),
    "twisted": _python("twisted"),
    "rclone": Program(
        lambda server, key, authorized: [
            PLACE / "venv/bin/rclone",
            *("--config", server.place / "rclone.conf", "--links", "--vfs-cache-mode", "off"),
            *("--dir-cache-time", "1s", "serve", "sftp", server.place, "--read-only"),
            *("--addr", f"127.0.0.1:{server.port}", "--key", key, "--authorized-keys", authorized),
        ],
        PLACE / "venv/bin/rclone",
        remote_root=Path("/artifacts"),  # served from "/", each request lists each directory on the way
    ),
    "ssh2": Program(
        lambda server, key, authorized: [
            "node",
            PROGRAMS / "with_ssh2.js",
            str(server.port),
            key,
            authorized,
        ],
        PLACE / "node_modules/ssh2",
    ),
    "dropbear": Program(
        lambda server, key, authorized: [
            _debian("usr/sbin/dropbear"),
            *("-F", "-E", "-p", f"127.0.0.1:{server.port}", "-r", server.place / "dropbear_key"),
        ],
        _debian("usr/sbin/dropbear"),
        prepare=_dropbear_key,
        under_home=True,
    ),
    "erlang": Program(_erlang, _debian("usr/lib/erlang"), prepare=_erlang_key),
    "tinysshd": Program(
        lambda server, key, authorized: [
            sys.executable,
            PROGRAMS / "with_tinysshd.py",
            str(server.port),
            *(_debian("usr/sbin/tinysshd"), "-x", f"sftp={SFTP_SERVER}", server.place / "tinysshd"),
        ],
        _debian("usr/sbin/tinysshd"),
        prepare=_tinysshd_keys,
        under_home=True,
    ),
    "proftpd": Program(
        lambda server, key, authorized: [
            _debian("usr/sbin/proftpd"),
            *("--nodaemon", "-c", server.place / "proftpd.conf"),
        ],
        _debian("usr/sbin/proftpd"),
        prepare=_proftpd,
    ),
}


def _subsystem(words: str) -> Callable[[Path], Server]:
    def make(place: Path) -> Server:
        program = words.split()[0]
        if not os.access(program, os.X_OK):
            pytest.skip(f"{Path(program).name} is not installed (scripts/servers installs it)")
        return OpenSsh(place, f"Subsystem sftp {words}")

    return make


def _lines(*lines: str) -> Callable[[Path], Server]:
    return lambda place: OpenSsh(place, *lines)


def _filtered(rule: str) -> Callable[[Path], Server]:
    return _subsystem(f"{sys.executable} -I -S {sftp_filter.__file__} {rule}")


def _script(place: Path, text: str) -> Path:
    path = place / "subsystem"
    path.write_text(f"#!/bin/sh\n{text}\nexec {SFTP_SERVER}\n")
    path.chmod(0o755)
    return path


def talking(place: Path) -> Server:
    """Whatever the user's shell prints at login comes before SFTP, and no client can tell the two apart."""
    script = place / "subsystem"
    script.write_text(f"#!/bin/sh\necho {TALK}\nexec {SFTP_SERVER}\n")
    script.chmod(0o755)
    return OpenSsh(place, f"Subsystem sftp {script}")


def _mysecureshell(place: Path) -> Server:
    """Its configuration is /etc/ssh/sftp_config and no other: each of its sessions has an /etc/ssh of its own."""
    program = _debian("usr/bin/mysecureshell")
    if not program.exists():
        pytest.skip("mysecureshell is not installed (scripts/servers installs it)")
    if os.getuid() != 0:
        pytest.skip("needs root, to give it another /etc/ssh")
    etc = place / "etc"
    etc.mkdir()
    settings = {
        **dict.fromkeys(("StayAtHome", "VirtualChroot", "ResolveIP", "HideNoAccess"), "false"),
        **dict.fromkeys(("IdleTimeOut", "LimitConnectionByUser", "LimitConnectionByIP"), "0"),
        "Home": "/",
        "LimitConnection": "0",
        "ShowLinksAsLinks": "true",
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    (etc / "sftp_config").write_text("\n".join(["<Default>", *lines, "</Default>", ""]))
    script = place / "subsystem"
    mount = f'umount -ila -t fuse.artisync; mount --bind "{etc}" /etc/ssh'
    script.write_text(f"#!/bin/sh\nexec unshare -m sh -c '{mount} && exec \"{program}\" -c sftp-server'\n")
    script.chmod(0o755)
    return OpenSsh(place, f"Subsystem sftp {script}")


TALK = "Welcome to the cluster"


def _few_handles(place: Path) -> Path:
    return _script(place, "ulimit -n 20")


KINDS: dict[str, Callable[[Path], Server]] = {
    "openssh": _lines(),
    "openssh, chroot": Chroot,
    "openssh, -R": _lines("Subsystem sftp internal-sftp -R"),
    "openssh, chacha20": _lines("Ciphers chacha20-poly1305@openssh.com"),
    "openssh, aes-ctr": _lines("Ciphers aes256-ctr"),
    "openssh, rsa": lambda place: OpenSsh(place, key_kind="rsa"),
    "openssh, MaxSessions 1": _lines("MaxSessions 1"),
    "openssh, MaxStartups 2:50:3": _lines("MaxStartups 2:50:3"),
    "openssh, RekeyLimit 1M": _lines("RekeyLimit 1M"),
    "openssh, a banner": _lines("Banner /etc/passwd"),
    "openssh, 20 handles": lambda place: OpenSsh(place, f"Subsystem sftp {_few_handles(place)}"),
    **{f"as if: {rule}": _filtered(rule) for rule in sftp_filter.RULES if rule != "no-listings"},
    "gesftpserver": _subsystem(str(_debian("usr/libexec/gesftpserver"))),
    "lsh": _subsystem(str(_debian("usr/lib/lsh-server/sftp-server"))),
    "mysecureshell": _mysecureshell,
    **{
        name: lambda place, program=program: OfProgram(place, program)
        for name, program in PROGRAM_KINDS.items()
    },
}
FAST = (
    "openssh, 20 handles",
    "as if: tidy-real-paths",
    "as if: bare-names",
    "as if: no-fstat",
)
"""Those that CI runs: one for each way in which servers differ that costs us most."""
