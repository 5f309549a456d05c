"""Facts about mount points, without FUSE being loaded: what is mounted, what is dead, how to unmount.

Nothing here looks below a mount point, so nothing can hang on a dead mount. Functions may be called from any thread.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vfs.errors import FuseMissing, MountError, MountPointUnusable

MOUNTINFO = Path("/proc/self/mountinfo")
FUSE_CONF = Path("/etc/fuse.conf")
DEVICE = Path("/dev/fuse")


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A mount: where, of which type (`fuse.artisync`), of what."""

    path: Path
    kind: str
    source: str


def unescape(field: str) -> str:
    """A field of mountinfo with its octal escapes (space, tab, newline, backslash) resolved; see proc(5)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def escape(name: str) -> str:
    r"""A value for a mount option: libfuse takes `\,` for a comma and `\\` for a backslash."""
    return name.replace("\\", "\\\\").replace(",", "\\,")


def parse_mountinfo(text: str) -> list[MountInfo]:
    """The mounts of a mountinfo file, in order; a later one of the same path covers an earlier one."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if "-" not in fields or len(fields) < 10:
            continue
        dash = fields.index("-")
        mounts.append(
            MountInfo(Path(unescape(fields[4])), unescape(fields[dash + 1]), unescape(fields[dash + 2]))
        )
    return mounts


def real(path: Path) -> Path:
    """The path with links in its parent resolved, without looking at the last component, which may be a dead mount."""
    absolute = Path(os.path.abspath(path))
    return Path(os.path.realpath(absolute.parent)) / absolute.name


def mount_info(path: Path) -> MountInfo | None:
    """What is mounted at `path`, or None."""
    wanted = real(path)
    if MOUNTINFO.exists():
        text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
        found = [mount for mount in parse_mountinfo(text) if mount.path == wanted]
        return found[-1] if found else None
    listing = subprocess.run(["mount"], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        match = re.fullmatch(r"(.*) on (.*) \(([^,)]*).*\)", line)
        if match and match[2] == str(wanted):
            return MountInfo(wanted, match[3], match[1])
    return None


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted at `path`."""
    return mount_info(path) is not None


def is_dead(path: Path) -> bool:
    """Whether `path` is a mount whose process is gone ("Transport endpoint is not connected")."""
    try:
        os.statvfs(path)  # a stat may still be answered from the kernel's cache
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def unmount(path: Path, *, force: bool = False) -> None:
    """Unmount `path`; with `force` also while it is in use (it goes when its last user does). Raises MountError."""
    place = str(real(path))
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is not None:
        command = [helper, "-u", *(["-z"] if force else []), "--", place]
    elif sys.platform == "darwin":
        command = ["umount", *(["-f"] if force else []), place]
    else:
        command = ["umount", *(["-l"] if force else []), place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    users = busy(Path(place))
    if users:
        raise MountError(f"{place} is in use by {', '.join(users)}: close them, or pass --force")
    raise MountError(f"{place} cannot be unmounted: {done.stderr.strip() or done.stdout.strip()}")


def busy(path: Path) -> list[str]:
    """Processes of which a working directory or an open file is below `path`, as `name (pid)`; Linux only."""
    below = f"{real(path)}/"
    users = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
            if any(f"{os.readlink(link)}/".startswith(below) for link in links):
                users.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
        except OSError:
            continue
    return users


def check_usable(path: Path) -> None:
    """Make the directory if it is missing; clean up a dead mount of ours. Raises MountPointUnusable."""
    mounted = mount_info(path)
    if mounted is not None:
        if not is_dead(path):
            raise MountPointUnusable(f"{path} is already mounted ({mounted.kind} of {mounted.source})")
        unmount(path, force=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = os.stat(path)
        if not stat.S_ISDIR(found.st_mode):
            raise MountPointUnusable(f"{path} is a file")
        if os.getuid() not in (0, found.st_uid):
            raise MountPointUnusable(f"{path} belongs to another user")
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                raise MountPointUnusable(f"{path} is not empty")
    except FileExistsError as error:
        raise MountPointUnusable(f"{path} is a file") from error
    except OSError as error:
        raise MountPointUnusable(f"{path} cannot be used: {error.strerror}") from error


def check_fuse(*, allow_other: bool = False) -> None:
    """See whether this user can mount. Raises FuseMissing, or MountError when `allow_other` is forbidden."""
    if sys.platform == "linux":
        if not DEVICE.exists():
            raise FuseMissing(
                f"there is no {DEVICE} (in a container, it needs `--device /dev/fuse --cap-add SYS_ADMIN`)"
            )
        if not os.access(DEVICE, os.R_OK | os.W_OK):
            raise FuseMissing(f"this user may not open {DEVICE}: `sudo chmod 666 {DEVICE}`")
        if os.getuid() != 0 and shutil.which("fusermount3") is None:
            raise FuseMissing("there is no fusermount3")
    if allow_other and os.getuid() != 0 and not _allows_other():
        raise MountError(
            f"--allow-other needs the line `user_allow_other` in {FUSE_CONF}: "
            f"`echo user_allow_other | sudo tee -a {FUSE_CONF}`"
        )


def _allows_other() -> bool:
    try:
        return any(line.strip() == "user_allow_other" for line in FUSE_CONF.read_text().splitlines())
    except OSError:
        return False
