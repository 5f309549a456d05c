"""Facts about mount points, without FUSE being loaded: what is dead, how to unmount.

Nothing here asks a mounted file system anything from this process, so nothing hangs on one that does not answer.
Functions may be called from any thread. Sources: fusermount3(1), mount.fuse3(8).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vfs.base import mount_table, paths
from vfs.base.errors import MountBusy, MountError, MountPointTaken, MountPointUnusable
from vfs.base.mount_table import HOST, MountInfo

END_SECONDS = 0.5
"""How long a killed process is waited for; it may never end while it waits for a hanging mount."""
MOUNT_NFS, UMOUNT = "/sbin/mount_nfs", "/sbin/umount"
"""macOS's."""


def real(path: Path) -> Path:
    """The path with symlinks in its parent resolved. The last component is not touched: it may be a dead mount."""
    absolute = Path(os.path.abspath(path))
    return Path(os.path.realpath(absolute.parent)) / absolute.name


def mount_info(path: Path) -> MountInfo | None:
    """What is mounted at `path`, or None."""
    wanted = real(path)
    found = [mount for mount in mount_table.mounts() if mount.path == wanted]
    return found[-1] if found else None


def is_ours(path: Path) -> bool:
    """Whether a mount of ours is at `path`, live or dead."""
    found = mount_info(path)
    return found is not None and found.ours


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted at `path`."""
    return mount_info(path) is not None


def is_dead(path: Path, timeout: float = 2.0) -> bool:
    """Whether `path` is a mount whose process is gone ("Transport endpoint is not connected"; by NFS: its port is closed).

    A mount that does not answer within `timeout` seconds is not dead. Takes about 20 ms when something is mounted.
    """
    found = mount_info(path)
    if found is None:
        return False
    if found.port is not None:
        return _is_closed(found.port, timeout)
    # in a process of its own, which is left behind if not even a kill ends it
    asking = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ASK, str(real(path))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return asking.wait(timeout) == errno.ENOTCONN
    except subprocess.TimeoutExpired:
        asking.kill()  # else it would keep the mount busy
        with contextlib.suppress(subprocess.TimeoutExpired):
            asking.wait(END_SECONDS)
        _hanging[:] = [process for process in (*_hanging, asking) if process.poll() is None]
        return False


def _is_closed(port: int, timeout: float) -> bool:
    try:
        socket.create_connection((HOST, port), timeout).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


_hanging: list[subprocess.Popen[bytes]] = []
_ASK = """
import os, sys
try:
    # never answered from the kernel's memory, needs no permission, and we answer it without the server
    os.getxattr(sys.argv[1], 'system.artisync')
except OSError as error:
    sys.exit(error.errno)
"""


def unmount(path: Path, *, force: bool = False) -> None:
    """Unmount `path`; with `force` also while it is in use (it is gone at once, and ends with its last user).

    Raises MountBusy, naming who uses it, and MountError.
    """
    place = str(real(path))
    found = mount_info(path)
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    by_fuse = found is None or found.port is None
    if by_fuse and helper is not None:
        command = [helper, "-u", *(["-z"] if force else []), "--", place]
    else:
        command = with_right(unmount_command(Path(place), force=force, system=sys.platform))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise MountError(f"{place} cannot be unmounted: {command[0]}: {error.strerror}") from error
    if done.returncode == 0:
        return
    users = busy(Path(place))
    if users:
        raise MountBusy(f"{place} is in use by {', '.join(users)}")
    if "busy" in done.stderr.lower():  # a program inside open(2) has no descriptor yet
        raise MountBusy(f"{place} is in use")
    if command[0] == "sudo":
        by_hand = shlex.join(["sudo", *command[2:]])
        raise MountError(f"only root can unmount {place}: `{by_hand}` ({done.stderr.strip()})")
    raise MountError(f"{place} cannot be unmounted: {done.stderr.strip() or done.stdout.strip()}")


def busy(path: Path) -> list[str]:
    """Processes with a working directory or an open file below `path`, as `name (pid)`; Linux only."""
    return _users(path, lambda process: [process / "cwd", *(process / "fd").iterdir()])


def standing_in(path: Path) -> list[str]:
    """Processes with their working directory below `path`, as `name (pid)`; Linux only."""
    return _users(path, lambda process: [process / "cwd"])


def _users(path: Path, links: Callable[[Path], list[Path]]) -> list[str]:
    below = f"{real(path)}/"
    users = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(f"{os.readlink(link)}/".startswith(below) for link in links(process)):
                users.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
        except OSError:
            continue
    return users


def programs(threads: Iterable[int]) -> list[str]:
    """The programs of these threads that still run, each once, as `name (pid)`; Linux only."""
    found = set()
    for thread in threads:
        try:
            status = Path(f"/proc/{thread}/status").read_text(errors="replace")
            pid = int(status.partition("\nTgid:")[2].split(None, 1)[0])
            found.add((pid, Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()))
        except (OSError, ValueError, IndexError):
            continue
    return [f"{name} ({pid})" for pid, name in sorted(found)]


def absent(path: Path) -> list[Path]:
    """Those directories of `path` that are not there, so that `check_usable` makes them; the innermost first."""
    # a dead mount cannot even be asked whether it exists
    return [] if is_mounted(path) else paths.missing(path)


def check_usable(path: Path) -> None:
    """Make the directory if it is missing; clean up a dead mount of ours. Raises MountPointUnusable."""
    mounted = mount_info(path)
    if mounted is not None:
        if not ((mounted.port is not None or mounted.kind.startswith("fuse")) and is_dead(path)):
            raise MountPointTaken(f"{path} is already mounted ({mounted.kind} of {mounted.source})")
        try:
            unmount(path, force=True)
        except MountError as error:
            raise MountPointUnusable(f"{path} is a dead mount ({mounted.kind}), and {error}") from error
    try:
        path.mkdir(parents=True, exist_ok=True)
        owner = os.stat(path).st_uid
        if os.getuid() not in (0, owner):
            raise MountPointUnusable(f"{path} belongs to another user")
        if not os.access(path, os.W_OK | os.X_OK):  # fusermount3 asks the same
            raise MountPointUnusable(f"{path} is not writable")
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                raise MountPointUnusable(f"{path} is not empty")
    except (FileExistsError, NotADirectoryError) as error:
        raise MountPointUnusable(f"{paths.existing(path)} is a file") from error
    except OSError as error:
        raise MountPointUnusable(f"{path} cannot be used: {error.strerror}") from error


# --- by NFS ----------------------------------------------------------------------------------------------------


def unmount_command(mountpoint: Path, *, force: bool, system: str) -> list[str]:
    """The words of the command that unmounts; `force`: also while it is in use, or when its server is gone."""
    if system == "darwin":
        return [UMOUNT, *(["-f"] if force else []), str(mountpoint)]
    # -i: as above; -c: it looks at nothing in a mount that may not answer
    return ["umount", "-i", "-c", *(["-l"] if force else []), str(mountpoint)]


def with_right(words: Sequence[str]) -> list[str]:
    """The command with the right that it needs: macOS lets users mount, Linux only root. sudo asks nothing."""
    if words[0] in (MOUNT_NFS, UMOUNT) or os.getuid() == 0:
        return list(words)
    return ["sudo", "-n", *words]
