"""Where control sockets are, who may reach them, and how their paths are kept short.

Functions may be called from any thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from vfs.base import paths
from vfs.base.errors import CannotControl
from vfs.base.places import state_dir

_SUN_PATH = 100
"""Bytes of a socket's path that fit everywhere (Linux: 108 with the NUL, unix(7))."""
_AGAIN_SECONDS = 0.05
"""Between two attempts to get a lock that another process has."""


def directories() -> list[Path]:
    """Where sockets may be, the preferred place first: a login has a runtime directory, a cron job has none."""
    candidates = []
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    with contextlib.suppress(OSError):
        found = os.stat(runtime)
        # after `su` the variable may still name another user's
        own = found.st_uid == os.getuid() and os.access(runtime, os.W_OK | os.X_OK)
        # where others can write, they could put their own directory in the place of ours
        if own and (not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX):
            candidates.append(Path(runtime) / "artisync")
    return [*candidates, state_dir() / "run"]


def key(mountpoint: Path) -> str:
    """Names what belongs to one mount point (an absolute path without symbolic links)."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def socket_path(mountpoint: Path) -> Path:
    """Where a new mount of this place would listen; the directory may not exist yet."""
    return directories()[0] / f"{key(mountpoint)}.sock"


def prepare(directory: Path) -> None:
    """Make it, for this user only. Raises `errors.CannotControl`."""
    try:
        paths.own_private(directory)
    except OSError as e:
        raise CannotControl(f"cannot use {directory} for the control socket: {e.strerror}") from e


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a sweep of stale records and the start of a mount apart. Raises BlockingIOError while another has the lock,
    `errors.CannotControl`."""
    with contextlib.ExitStack() as held:
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as e:
            raise CannotControl(f"cannot lock {directory}: {e.strerror}") from e
        yield


@contextlib.asynccontextmanager
async def lock(directory: Path) -> AsyncIterator[None]:
    """As `locked`, once no other has the lock. Raises `errors.CannotControl`."""
    import asyncio  # not for those that only ask a mount

    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(directory))
                break
            except BlockingIOError:
                await asyncio.sleep(_AGAIN_SECONDS)
        yield


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A name for the socket that fits into `sun_path`, valid inside the block."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    # a private directory, where no other user can put a symlink
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        symlink = os.path.join(directory, "d")
        os.symlink(path.parent, symlink)
        yield os.path.join(symlink, path.name)
