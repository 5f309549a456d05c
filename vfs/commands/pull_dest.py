"""The directory that a pull writes into, held open: everything below it is reached by descriptors, through no symlink.

No path below the directory is ever given to the kernel: each component is opened by itself, in the directory before it,
and never when it is a symlink. So however a server names its files, and even if directories are swapped meanwhile, nothing is
touched outside; and a path may be longer than PATH_MAX. Any thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfs.base.file_version import Version

_CLIMB = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """What is in a name's place, symlinks not followed."""

    stat: os.stat_result
    text: str | None = None
    """Where a symlink leads."""

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


class PullDirectory:
    """`with PullDirectory(path) as destination:` holds the directory; names are relative to it, words between slashes.

    Raises OSError when it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> PullDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def removed(self) -> bool:
        """Whether somebody removed the directory itself."""
        return os.fstat(self._fd).st_nlink == 0

    def free(self) -> int:
        """Bytes that may still be written."""
        room = os.fstatvfs(self._fd)
        return room.f_bavail * room.f_frsize

    @contextmanager
    def place(self, name: str) -> Iterator[LocalName]:
        """The place of a name in its directory. Raises OSError, of ENOTDIR for a symlink on the way."""
        *above, last = words = name.split("/")
        for word in words:
            if word in ("", ".", "..") or "\0" in word:
                raise OSError(errno.EINVAL, "not a name for a file", name)
        fd = os.dup(self._fd)
        try:
            for word in above:
                inner = os.open(word, _CLIMB, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield LocalName(fd, last)
        finally:
            os.close(fd)

    def found(self, name: str) -> LocalEntry | None:
        """What is there now; None if nothing is, or its directory is not one. Raises OSError."""
        try:
            with self.place(name) as place:
                return place.found()
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise

    def below(self, name: str) -> Iterator[tuple[str, LocalEntry]]:
        """All that is in the directory `name`, a directory before what is in it. Raises OSError."""
        todo = [name]
        while todo:
            directory = todo.pop()
            with self.place(directory) as place:
                inside = place.inside()
            for word, found in inside:
                inner = f"{directory}/{word}"
                if found.is_directory:
                    todo.append(inner)
                yield inner, found

    def remove(self, name: str, *, directory: bool = False) -> None:
        """Remove a file, a symlink, or a directory that is empty; nothing happens if it is gone. Raises OSError."""
        try:
            with self.place(name) as place:
                place.remove(directory=directory)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise


class LocalName:
    """One name in one open directory. All methods raise OSError."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name

    def found(self) -> LocalEntry | None:
        """What is there now."""
        try:
            status = os.stat(self._name, dir_fd=self._fd, follow_symlinks=False)
            symlink = stat.S_ISLNK(status.st_mode)
            return LocalEntry(status, os.readlink(self._name, dir_fd=self._fd) if symlink else None)
        except FileNotFoundError:
            return None

    def inside(self) -> list[tuple[str, LocalEntry]]:
        """What is in the directory of this name."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._name, flags, dir_fd=self._fd)
        try:
            things = [(name, LocalName(fd, name).found()) for name in os.listdir(fd)]
        finally:
            os.close(fd)
        return [(name, found) for name, found in things if found is not None]

    def make_directory(self, mode: int) -> None:
        """A new directory with the server's mode, as far as the umask allows, and all rights for its owner."""
        os.mkdir(self._name, stat.S_IMODE(mode) & 0o777 | 0o700, dir_fd=self._fd)

    def open(self, temporary: str | None = None, mode: int = 0) -> int:
        """Open the file, or the temporary one beside it, for reading and writing; the descriptor. A temporary file that is
        missing is made, with the server's mode as in `make_directory`."""
        # not blocking: a FIFO may have taken its place
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if temporary else 0)
        fd = os.open(temporary or self._name, flags, stat.S_IMODE(mode) & 0o777 | 0o600, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a file any more", self._name)
        return fd

    def symlink(self, temporary: str, text: str) -> None:
        """A new symlink beside it."""
        os.symlink(text, temporary, dir_fd=self._fd)

    def put(self, temporary: str) -> None:
        """What was made beside it takes its place, in one step."""
        os.replace(temporary, self._name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def discard(self, temporary: str) -> None:
        """Remove what was made beside it, if it is there still."""
        try:
            os.unlink(temporary, dir_fd=self._fd)
        except FileNotFoundError:
            pass

    def remove(self, *, directory: bool = False) -> None:
        """Remove the file or symlink of this name, or the empty directory."""
        if directory:
            os.rmdir(self._name, dir_fd=self._fd)
        else:
            os.unlink(self._name, dir_fd=self._fd)


def temporary_name() -> str:
    """A short name that no server can guess, so that it is in no other file's way."""
    return f".artisync-{secrets.token_hex(8)}"


def write(fd: int, offset: int, views: list[memoryview]) -> None:
    """Write all of them, one behind the other. Raises OSError."""
    for view in views:
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written


def stamp(fd: int, version: Version) -> None:
    """Give the file the version's size and time. Raises OSError."""
    os.ftruncate(fd, version.size)
    os.utime(fd, (version.mtime, version.mtime))
