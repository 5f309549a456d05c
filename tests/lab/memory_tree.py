"""A directory tree in memory with the semantics of a POSIX file system; its clock is the test's.

`MemoryTree` and `RealTree` (a directory on this machine) have the same changes under the same names, so that one
test runs on both. Paths are absolute, as bytes. Failures are OSError with the errno that Linux gives.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

MOST_SYMLINKS = 40
"""Links followed in one path, as Linux does."""


class Changes(Protocol):
    """What a server's users do to its files."""

    def mkdir(self, path: bytes) -> None: ...
    def write(self, path: bytes, data: bytes) -> None:
        """Make a file, or write one anew in place: truncated, then filled; the same inode."""
        ...

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        """Write into a file, in place."""
        ...

    def append(self, path: bytes, data: bytes) -> None: ...
    def truncate(self, path: bytes, size: int) -> None: ...
    def replace(self, path: bytes, data: bytes) -> None:
        """Write a temporary file and rename it over `path`: another inode, as rsync and careful writers do."""
        ...

    def rename(self, old: bytes, new: bytes) -> None: ...
    def remove(self, path: bytes) -> None: ...
    def rmtree(self, path: bytes) -> None: ...
    def symlink(self, path: bytes, target: bytes) -> None: ...
    def chmod(self, path: bytes, mode: int) -> None: ...
    def utime(self, path: bytes, mtime: int) -> None: ...


@dataclass(eq=False, slots=True)
class Inode:
    """A file, a directory or a link. Times in whole seconds of the tree's clock."""

    mode: int
    mtime: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[bytes, Inode] = field(default_factory=dict)
    target: bytes = b""
    claimed: int | None = None
    """The size that the server tells, where it is not the truth."""

    @property
    def size(self) -> int:
        if self.claimed is not None:
            return self.claimed
        if stat.S_ISDIR(self.mode):
            return 4096
        return len(self.target) if stat.S_ISLNK(self.mode) else len(self.data)


class MemoryTree:
    """`clock` gives the server's time in Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.top = Inode(stat.S_IFDIR | 0o755, self._second())

    # --- changes ------------------------------------------------------------------------------------------------

    def mkdir(self, path: bytes) -> None:
        self._enter(path, Inode(stat.S_IFDIR | 0o755, self._second()))

    def write(self, path: bytes, data: bytes) -> None:
        inode = self._file(path)
        inode.data[:] = data
        inode.mtime = self._second()

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        inode = self._file(path)
        inode.data.extend(bytes(max(0, offset - len(inode.data))))
        inode.data[offset : offset + len(data)] = data
        inode.mtime = self._second()

    def append(self, path: bytes, data: bytes) -> None:
        self.write_at(path, len(self._file(path).data), data)

    def truncate(self, path: bytes, size: int) -> None:
        inode = self.find(path)
        inode.data[:] = inode.data[:size].ljust(size, b"\0")
        inode.mtime = self._second()

    def replace(self, path: bytes, data: bytes) -> None:
        temporary = posixpath.join(posixpath.dirname(path), b".temporary")
        self.write(temporary, data)
        self.rename(temporary, path)

    def rename(self, old: bytes, new: bytes) -> None:
        inode = self.find(old, follow=False)
        directory, name = self._place(new)
        there = directory.children.get(name)
        if there is not None and stat.S_ISDIR(there.mode) != stat.S_ISDIR(inode.mode):
            raise _error(errno.EISDIR if stat.S_ISDIR(there.mode) else errno.ENOTDIR, new)
        if there is not None and there.children:
            raise _error(errno.ENOTEMPTY, new)
        self._leave(old)
        directory.children[name] = inode
        directory.mtime = self._second()

    def remove(self, path: bytes) -> None:
        if stat.S_ISDIR(self.find(path, follow=False).mode):
            raise _error(errno.EISDIR, path)
        self._leave(path)

    def rmtree(self, path: bytes) -> None:
        self._leave(path)

    def symlink(self, path: bytes, target: bytes) -> None:
        self._enter(path, Inode(stat.S_IFLNK | 0o777, self._second(), target=target))

    def chmod(self, path: bytes, mode: int) -> None:
        inode = self.find(path)
        inode.mode = stat.S_IFMT(inode.mode) | mode

    def utime(self, path: bytes, mtime: int) -> None:
        self.find(path).mtime = mtime

    def claim(self, path: bytes, size: int | None) -> None:
        """Have the server tell another size than the file has."""
        self.find(path).claimed = size

    # --- looks --------------------------------------------------------------------------------------------------

    def find(self, path: bytes, *, follow: bool = True) -> Inode:
        """The inode at a path; `follow`: through a link at its end, too."""
        return self._walk(path, follow=follow)[1]

    def realpath(self, path: bytes) -> bytes:
        """The path without links; its last name need not exist (as OpenSSH's sftp-realpath.c has it)."""
        return self._walk(path, follow=True, missing=True)[0]

    def _walk(self, path: bytes, *, follow: bool, missing: bool = False) -> tuple[bytes, Inode]:
        at: list[tuple[bytes, Inode]] = []
        todo = [word for word in path.split(b"/") if word not in (b"", b".")]
        hops = 0
        while todo:
            word = todo.pop(0)
            here = at[-1][1] if at else self.top
            if not stat.S_ISDIR(here.mode):
                raise _error(errno.ENOTDIR, path)
            if word == b"..":
                del at[-1:]
                continue
            inode = here.children.get(word)
            if inode is None and missing and not todo:
                inode = Inode(0, 0)
            if inode is None:
                raise _error(errno.ENOENT, path)
            if stat.S_ISLNK(inode.mode) and (todo or follow):
                hops += 1
                if hops > MOST_SYMLINKS:
                    raise _error(errno.ELOOP, path)
                if inode.target.startswith(b"/"):
                    at.clear()
                todo = [word for word in inode.target.split(b"/") if word not in (b"", b".")] + todo
                continue
            at.append((word, inode))
        return b"/" + b"/".join(name for name, _ in at), at[-1][1] if at else self.top

    # --- below ----------------------------------------------------------------------------------------------------

    def _place(self, path: bytes) -> tuple[Inode, bytes]:
        directory, name = posixpath.split(path)
        inode = self.find(directory)
        if not stat.S_ISDIR(inode.mode):
            raise _error(errno.ENOTDIR, path)
        return inode, name

    def _enter(self, path: bytes, inode: Inode) -> None:
        directory, name = self._place(path)
        if name in directory.children:
            raise _error(errno.EEXIST, path)
        directory.children[name] = inode
        directory.mtime = self._second()

    def _leave(self, path: bytes) -> None:
        directory, name = self._place(path)
        if name not in directory.children:
            raise _error(errno.ENOENT, path)
        del directory.children[name]
        directory.mtime = self._second()

    def _file(self, path: bytes) -> Inode:
        """The file that a writer opens: made if it is not there."""
        directory, name = self._place(path)
        if name not in directory.children:
            self._enter(path, Inode(stat.S_IFREG | 0o644, self._second()))
        inode = self.find(path)
        if stat.S_ISDIR(inode.mode):
            raise _error(errno.EISDIR, path)
        return inode

    def _second(self) -> int:
        return int(self.clock())


class RealTree:
    """The same changes on this machine's file system."""

    def mkdir(self, path: bytes) -> None:
        os.mkdir(path)

    def write(self, path: bytes, data: bytes) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(data)

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        with open(path, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, offset)

    def append(self, path: bytes, data: bytes) -> None:
        with open(path, "ab", buffering=0) as file:
            file.write(data)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(path, size)

    def replace(self, path: bytes, data: bytes) -> None:
        temporary = posixpath.join(posixpath.dirname(path), b".temporary")
        self.write(temporary, data)
        os.rename(temporary, path)

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(old, new)

    def remove(self, path: bytes) -> None:
        os.unlink(path)

    def rmtree(self, path: bytes) -> None:
        shutil.rmtree(path)

    def symlink(self, path: bytes, target: bytes) -> None:
        os.symlink(target, path)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode)

    def utime(self, path: bytes, mtime: int) -> None:
        os.utime(path, (mtime, mtime))


def _error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
