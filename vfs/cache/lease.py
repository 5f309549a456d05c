"""Which process wrote a block file: nothing that a killed one left behind is kept for ever.

Files are written before their rows are committed, so a process that is killed can leave files that no row
names. Each process therefore writes below a directory of its own, `blocks/EPOCH/`, and holds a lock (flock)
on the file `lock` in it, which goes when the process ends in order. A `lock` that nobody holds marks what a
killed process left: `sweep` then asks for each file whether a row names it. A directory without `lock` holds
only files that have rows.

Thread-safety: an `Epoch` belongs to the cache's writer thread.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vfs.cache.keys import file_name

PER_DIRECTORY = 1024
"""Block files in one directory."""

ASIDE = "aside-"
"""Prefix of directories that hold what is being deleted."""


class Epoch:
    """The directory that this process writes block files to; it is made with the first one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.id = os.urandom(8).hex()
        self._own = directory / "blocks" / self.id
        self._lock: int | None = None
        self._count = 0

    def name(self, lineage: bytes, first: int) -> str:
        """A new name for the file of a block, or of a run that begins with it, below the cache directory. Its
        directory is there. Raises OSError."""
        if self._lock is None:
            self._begin()
        sub = f"{self._count // PER_DIRECTORY:03x}"
        if self._count % PER_DIRECTORY == 0:
            (self._own / sub).mkdir(mode=0o700, exist_ok=True)
        self._count += 1
        return file_name(self.id, sub, lineage, first, self._count)

    def tidy(self, names: Iterable[str]) -> None:
        """Delete the directories of `names` that are empty now, but not the one in use."""
        current = f"blocks/{self.id}/{max(self._count - 1, 0) // PER_DIRECTORY:03x}"
        for parent in {os.path.dirname(name) for name in names} - {current}:
            if _remove_empty(self._directory / parent):
                _remove_empty(self._directory / os.path.dirname(parent))

    def close(self, *, clean: bool) -> None:
        """`clean`: every file has its row, so that nobody need look."""
        if self._lock is not None:
            if clean:
                (self._own / "lock").unlink(missing_ok=True)
                _remove_tree_if_empty(self._own)
            os.close(self._lock)
            self._lock = None

    def _begin(self) -> None:
        for attempt in range(3):
            self._own.mkdir(mode=0o700, exist_ok=True)
            try:
                lock = os.open(self._own / "lock.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # a sweep took the empty directory away
                if attempt == 2:
                    raise
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(self._own / "lock.new", self._own / "lock")
            self._lock = lock
            return


def sweep(directory: Path, own: str, named: Callable[[str], bool]) -> Iterator[None]:
    """Delete what killed processes left, and what was set aside; a little with each step of the iterator.

    `named(name)` says whether a row names that block file. Raises what it raises, and OSError.
    """
    for path in _entries(directory):
        if path.name.startswith(ASIDE):
            yield from _remove_tree(path)
    for epoch in _entries(directory / "blocks"):
        if epoch.name == own:
            continue
        lock = _take(epoch / "lock")
        if lock is not None:
            try:
                yield from _remove_nameless(epoch, named)
                (epoch / "lock").unlink(missing_ok=True)
            finally:
                os.close(lock)
        if not (epoch / "lock").exists():
            _remove_tree_if_empty(epoch)
        yield


def set_aside(directory: Path, names: Iterable[str]) -> None:
    """Move entries of `directory` out of the way; `sweep` deletes them. Raises OSError."""
    aside = directory / f"{ASIDE}{os.urandom(8).hex()}"
    aside.mkdir(mode=0o700)
    for name in names:
        if os.path.lexists(directory / name):
            os.rename(directory / name, aside / name)


def _remove_nameless(epoch: Path, named: Callable[[str], bool]) -> Iterator[None]:
    for sub in _entries(epoch):
        if sub.name == "lock":
            continue
        for count, path in enumerate(_entries(sub)):
            if not named(f"blocks/{epoch.name}/{sub.name}/{path.name}"):
                path.unlink(missing_ok=True)
            if count % 100 == 99:
                yield


def _take(path: Path) -> int | None:
    """An open, locked file, if it is there and no living process holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_tree(path: Path) -> Iterator[None]:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if path.parent.parent.name == "blocks":  # a thousand files at most
        shutil.rmtree(path, ignore_errors=True)
        yield
        return
    for entry in _entries(path):
        yield from _remove_tree(entry)
    _remove_empty(path)


def _remove_tree_if_empty(path: Path) -> None:
    for entry in _entries(path):
        _remove_empty(entry)
    _remove_empty(path)


def _remove_empty(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
