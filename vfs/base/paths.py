"""Local files and directories: which exist, private ones, atomic writes. Any thread."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path


def existing(path: Path) -> Path:
    """The absolute path, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def missing(path: Path) -> list[Path]:
    """Those of the absolute path and the directories above it that are not there, the innermost first."""
    return list(itertools.takewhile(lambda place: not os.path.lexists(place), (path, *path.parents)))


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are not there, for this user alone. Raises OSError."""
    for place in reversed(missing(Path(os.path.abspath(directory)))):
        place.mkdir(mode=0o700, exist_ok=True)
    # fails where a file, or a dangling symlink, is in the way
    directory.mkdir(mode=0o700, exist_ok=True)


def own_private(directory: Path) -> None:
    """As `make_private`; one that is there becomes private. Raises OSError if there is a symlink, or another user's."""
    make_private(directory)
    if directory.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        if found.st_mode & 0o077:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def is_own(path: Path) -> bool:
    """Whether the path exists and belongs to this user; of a symlink, both it and its target."""
    try:
        return os.lstat(path).st_uid == os.stat(path).st_uid == os.getuid()
    except OSError:
        return False


def remove(directories: Iterable[Path]) -> None:
    """Remove these, the innermost first. A directory that is in use, and those above it, stay."""
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()


def open_file(path: Path) -> int:
    """Open a regular file for reading, so that nothing waits for the other end of a FIFO. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        return fd
    os.close(fd)
    name = next((name for is_it, name in _KINDS if is_it(kind)), "something else")
    raise OSError(errno.EINVAL, f"is {name}, not a regular file", str(path))


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` in one step, mode 0600; a crash leaves the old file or the new one. Raises OSError.

    Bytes that are not UTF-8 are surrogate-escaped in `text`.
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(text)
            f.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
