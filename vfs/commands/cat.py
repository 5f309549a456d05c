"""A file's bytes in order, once or for as long as it grows: of the server, or of a file in a mount.

The files of a mount are read by blocking calls on the main thread; the rest runs on the event loop's thread, where
`write` is called by others.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vfs.base.errors import AccessDenied, LinkError, NoSuchPath, StaleVersion, Unreachable, UsageError
from vfs.base.paths import open_file
from vfs.files.experiments import find_path
from vfs.files.node import Kind, Node
from vfs.files.read_whole import chunks, settled_reader
from vfs.files.reader import Reader
from vfs.stack import Stack

Write = Callable[[bytes], None]
Tell = Callable[[str], None]

STEP = 64 << 10
"""Bytes in which the last lines are looked for at a time."""
CHUNK = 1 << 20
LOOK_SECONDS = 1.0
"""Between two looks at a file in a mount, which is as fresh as its --ttl."""


async def copy(stack: Stack, path: str, lines: int | None, write: Write) -> None:
    """Write one version of the file at `path` (relative to the root), or its last `lines`.

    Raises NoSuchPath, NoSuchExperiment, UsageError for a directory, StaleVersion when the file is replaced meanwhile,
    else what the remote raises.
    """
    node = await _file(stack, path)
    async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
        await _write(reader, await _start(reader, lines), reader.size, write)


async def follow(stack: Stack, path: str, lines: int | None, write: Write, tell: Tell) -> None:
    """Write the last `lines`, and then what is appended, until cancelled; `tell` is told when it was replaced or is gone.

    A server that does not answer is waited for. Raises as `copy` at first.
    """
    node = await _file(stack, path)
    written: int | None = None
    gone = False
    while True:
        try:
            async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
                written = await _start(reader, lines) if written is None else min(written, reader.size)
                while True:
                    written += await _write(reader, written, reader.size, write)
                    await asyncio.sleep(stack.settings.ttl / 2)
                    await stack.tree.refresh(node)
                    if node.stale:
                        raise StaleVersion(path)
        except StaleVersion:
            pass
        except (LinkError, TimeoutError):
            await asyncio.sleep(stack.settings.ttl)
            continue
        try:
            current = await _file(stack, path)
        except (NoSuchPath, LinkError, TimeoutError) as error:
            if isinstance(error, NoSuchPath) and not gone:
                tell(f"{path} is gone; waiting for it to come back")
                gone = True
            await asyncio.sleep(stack.settings.ttl)
            continue
        if current is not node:
            tell(f"{path} was replaced; following the new file")
            node, written, gone = current, 0, False


async def _file(stack: Stack, path: str) -> Node:
    node = await find_path(stack.tree, path)
    if node.kind is not Kind.FILE:
        raise UsageError(f"{path} is a directory; list it with `artisync ls {path}`")
    return node


async def _write(reader: Reader, start: int, end: int, write: Write) -> int:
    """How many bytes were written."""
    async for pieces in chunks(reader, start, end):
        for block, a, b in pieces:
            await asyncio.to_thread(write, bytes(block.view(a, b)))
    return max(0, end - start)


async def _start(reader: Reader, lines: int | None) -> int:
    """Where the last `lines` begin."""
    if lines is None:
        return 0
    last = LastLines(reader.size, lines)
    while (wanted := last.wanted) is not None:
        pieces = await reader.read(*wanted)
        last.take(b"".join(block.view(a, b) for block, a, b in pieces))
    return last.start


class LastLines:
    """Finds where the last `lines` of `size` bytes begin, reading backwards. Pure: read `wanted`, `take` the bytes."""

    def __init__(self, size: int, lines: int) -> None:
        self._left = lines + 1
        self._at = self._end = size
        self.start = size if not lines else 0
        self._over = not lines

    @property
    def wanted(self) -> tuple[int, int] | None:
        """The offset and the length of what to read next; None when `start` is found."""
        if self._over or not self._at:
            return None
        offset = max(0, self._at - STEP)
        return offset, self._at - offset

    def take(self, data: bytes) -> None:
        offset = self._at - len(data)
        if self._at == self._end and not data.endswith(b"\n"):
            self._left -= 1  # the last line has no end yet
        found = len(data)
        while (found := data.rfind(b"\n", 0, found)) >= 0:
            self._left -= 1
            if not self._left:
                self.start, self._over = offset + found + 1, True
                return
        self._at = offset


# --- in a mount ---------------------------------------------------------------------------------------------------


def copy_local(path: Path, lines: int | None, write: Write) -> None:
    """As `copy`, of a file in a mount."""
    with _opened(path) as file:
        file.write(file.start(lines), write)


def follow_local(path: Path, lines: int | None, write: Write, tell: Tell) -> None:
    """As `follow`, until KeyboardInterrupt."""
    inode, gone = -1, False
    written: int | None = None
    while True:
        try:
            with _opened(path) as file:
                if written is None:
                    written = file.start(lines)
                elif file.inode != inode:
                    tell(f"{path} was replaced; following the new file")
                    written = 0
                inode, gone = file.inode, False
                while file.is_still_there():
                    written += file.write(written, write)
                    time.sleep(LOOK_SECONDS)
        except (StaleVersion, Unreachable, NoSuchPath) as error:
            if written is None:
                raise
            if isinstance(error, NoSuchPath) and not gone:
                tell(f"{path} is gone; waiting for it to come back")
                gone = True
            time.sleep(LOOK_SECONDS)


class _File:
    """An open file of a mount. Raises NoSuchPath, AccessDenied, StaleVersion, Unreachable."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self.inode = os.fstat(fd).st_ino

    def is_still_there(self) -> bool:
        with _failures(self._path):
            return os.stat(self._path).st_ino == self.inode

    def start(self, lines: int | None) -> int:
        """Where the last `lines` begin."""
        if lines is None:
            return 0
        with _failures(self._path):
            last = LastLines(os.fstat(self._fd).st_size, lines)
            while (wanted := last.wanted) is not None:
                offset, length = wanted
                last.take(os.pread(self._fd, length, offset))
        return last.start

    def write(self, start: int, write: Write) -> int:
        """Write the bytes from `start` to the end of the file; how many."""
        count = 0
        while True:
            with _failures(self._path):
                data = os.pread(self._fd, CHUNK, start + count)
            if not data:
                return count
            write(data)
            count += len(data)


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    with _failures(path):
        fd = open_file(path)
    try:
        yield _File(path, fd)
    finally:
        os.close(fd)


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """Our errors in place of a mount's errnos."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise NoSuchPath(f"{path} is gone") from error
        if error.errno == errno.EACCES:
            raise AccessDenied(f"{path} may not be read") from error
        if error.errno == errno.ESTALE:
            raise StaleVersion(f"{path} was replaced") from error
        if error.errno == errno.EINVAL:
            listed = f"; list it with `artisync ls {path}`" if path.is_dir() else ""
            raise UsageError(f"{path} {error.strerror}{listed}") from error
        raise Unreachable(f"{path}: {error.strerror}") from error
