"""What is mounted, as the system tells: nothing here asks a mounted file system anything, so nothing hangs on one.

Functions may be called from any thread. Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
MOUNT_KIND = "fuse.artisync"
"""The type under which the kernel lists our mounts by FUSE."""
HOST = "127.0.0.1"
PREFIX = "/artisync/"
"""How the paths of our exports by NFS begin; the port and the secret follow."""


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A mount: its path, type (`fuse.sshfs`), source, device number (`0:52`), and by FUSE the id of who mounted it."""

    path: Path
    kind: str
    source: str
    device: str = field(default="", compare=False)
    user: int | None = field(default=None, compare=False)

    @property
    def port(self) -> int | None:
        """The port of the server, if this is a mount of ours by NFS."""
        return port_of(self.source) if self.kind == "nfs" else None

    @property
    def ours(self) -> bool:
        """Whether artisync made it."""
        return self.kind == MOUNT_KIND or self.port is not None

    @property
    def foreign(self) -> bool:
        """Whether another user made it, as far as that is known."""
        return self.user not in (None, os.getuid())


def unescape(field: str) -> str:
    """A field of mountinfo with its octal escapes (space, tab, newline, backslash) resolved; see proc(5)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def parse_mountinfo(text: str) -> list[MountInfo]:
    """The mounts of a mountinfo file, in order; a later one of the same path covers an earlier one."""
    mounts = []
    for line in text.split("\n"):  # other line ends are not escaped
        fields = line.split(" ")
        if "-" not in fields or len(fields) < 10:
            continue
        dash = fields.index("-")
        kind, source = map(unescape, fields[dash + 1 : dash + 3])
        user = re.search(r"\buser_id=(\d+)", fields[-1])
        path = Path(unescape(fields[4]))
        mounts.append(MountInfo(path, kind, source, fields[2], int(user[1]) if user else None))
    return mounts


def mounts() -> list[MountInfo]:
    """All that is mounted, in order."""
    if MOUNTINFO.exists():
        return parse_mountinfo(MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape"))
    listing = subprocess.run(["mount"], capture_output=True, text=True, check=False).stdout
    lines = (re.fullmatch(r"(.*) on (.*) \(([^,)]*).*\)", line) for line in listing.splitlines())
    return [MountInfo(Path(line[2]), line[3], line[1]) for line in lines if line]


def present(path: Path, device: str) -> Path:
    """Where the mount that was made at `path` is now: elsewhere if a directory above it has another name. `device` is its number."""
    places = [mount.path for mount in mounts() if mount.device == device] if device else []
    return path if path in places or not places else places[0]


def port_of(source: str) -> int | None:
    """The server's port, of the source of a mount (`127.0.0.1:/artisync/PORT/…`); None if it is not ours."""
    host, _, path = source.partition(":")
    port = path.removeprefix(PREFIX).partition("/")[0]
    if host != HOST or not path.startswith(PREFIX) or not (port.isascii() and port.isdigit()):
        return None
    return int(port)
