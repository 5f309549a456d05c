"""What `pull` put into a directory of this machine: tells a file that is as we left it from one that was changed here.

A journal of one JSON line per file or link, kept with the program's state and not in the directory. A line is written
before the file takes its place, so that after a kill at any moment each file is one that some line describes; another
names the temporary file, so that the next pull removes it. One process writes into one directory at a time, which a lock
on the journal sees to.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vfs.base import paths
from vfs.base.errors import DestinationBusy, StateUnusable
from vfs.base.file_version import Change, Version, classify
from vfs.base.places import state_dir
from vfs.commands.pull_dest import Destination, Found

log = logging.getLogger(__name__)

COMPACT = 4
"""A journal so many times as large as its content is written anew, once it is larger than this:"""
SMALL = 64 << 10


class Action(enum.Enum):
    """What is to be done with one file."""

    SAME = "same"
    NEW = "new"
    GROW = "grow"
    """The file here is the beginning of the one on the server, if its bytes are of the same lineage."""
    REPLACE = "replace"
    KEEP = "keep"
    """It was changed here: it is not touched unless that was asked for."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file as we left it: size in bytes, mtime in nanoseconds, of which lineage its bytes are; or a link.

    `growing_to` is set while a tail is being appended: then any size in between is our own doing.
    """

    size: int
    mtime_ns: int
    lineage: str
    growing_to: int | None = None
    text: str | None = None
    """Of a link, where it leads; the rest says nothing then."""

    def describes(self, found: Found) -> bool:
        """Whether the file is still as we left it."""
        if self.text is not None or not found.is_file:
            return self.text is not None and self.text == found.text
        status = found.stat
        if self.growing_to is not None:
            return self.size <= status.st_size <= self.growing_to
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def left_link(text: str) -> Left:
    """A link as we left it."""
    return Left(0, 0, "", text=text)


def decide(found: Found | None, left: Left | None, version: Version, *, overwrite: bool) -> Action:
    """What to do with a file, given what is here (no directory), how we left it, and the server's version. Pure."""
    if found is None:
        return Action.NEW
    status = found.stat
    if found.is_file and left is not None and left.growing_to is not None:
        return Action.GROW if left.growing_to <= version.size else Action.REPLACE
    if found.is_file and (status.st_size, int(status.st_mtime)) == (version.size, version.mtime):
        return Action.SAME
    if left is None:
        return Action.REPLACE if overwrite else Action.KEEP
    was = Version(left.size, left.mtime_ns // 1_000_000_000)
    return Action.GROW if found.is_file and classify(was, version) is Change.GROWN else Action.REPLACE


class Pulled:
    """The journal of one directory. `with Pulled(directory) as pulled:` holds its lock.

    Raises DestinationBusy when another process pulls into the same directory, StateUnusable when it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:16]
        self._directory = directory
        self._path = state_dir() / "pulls" / f"{name}.jsonl"
        self._left: dict[str, list[Left]] = {}
        self._temporary: set[str] = set()
        self._leftovers: set[str] = set()
        """Temporary files of pulls that were killed."""
        self._written = 0
        """Bytes in the journal."""
        self._content = 0
        """Bytes in it after it was last compacted."""

    def __enter__(self) -> Pulled:
        try:
            paths.make_private(self._path.parent)
            self._lock = os.open(
                self._path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whole = self._load()
            self._open()
            if not whole:
                self._write(b"\n")
        except BlockingIOError as error:
            os.close(self._lock)
            raise DestinationBusy(f"another pull is writing into {self._directory}") from error
        except OSError as error:
            os.close(self._lock)
            raise self._unusable(error) from error
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._compact()
            self._journal.close()
        finally:
            os.close(self._lock)

    def left(self, name: str, found: Found) -> Left | None:
        """How we left the file or link, if what was `found` is that."""
        return next((left for left in reversed(self._left.get(name, ())) if left.describes(found)), None)

    def knows(self, name: str) -> bool:
        """Whether a pull put a file or a link there once."""
        return name in self._left

    def note(self, name: str, left: Left) -> None:
        """The file will be, or is, as `left` says. The line before it counts too, until the next one.

        Raises StateUnusable, as the rest that writes here.
        """
        before = self._left.get(name, [])[-1:]
        if before != [left]:
            self._write(_line(name, left))
            self._left[name] = [*before, left]

    def settle(self, name: str, left: Left) -> None:
        """The file is as `left` says, and as nothing else."""
        self._write(_line(name, left))
        self._left[name] = [left]
        if self._written > max(SMALL, COMPACT * self._content):
            self._compact()

    def forget(self, name: str) -> None:
        """Nothing of ours is there any more."""
        if self._left.pop(name, None) is not None:
            self._write(_dump([name]))

    def begin(self, temporary: str) -> None:
        """A temporary file of that name will be made."""
        self._write(_dump([temporary, "temporary"]))
        self._temporary.add(temporary)

    def over(self, temporary: str) -> None:
        """The temporary file is gone, or in its place."""
        self._temporary.discard(temporary)

    def clean(self, destination: Destination) -> None:
        """Remove what killed pulls left half-made."""
        for name in sorted(self._leftovers):
            try:
                destination.remove(name)
            except OSError as error:
                log.info("%s stays: %s", name, error)
        self._leftovers.clear()

    def _write(self, line: bytes) -> None:
        try:
            if self._journal.write(line) != len(line):
                self._journal.truncate(self._written)  # half a line would spoil the next one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._unusable(error) from error
        self._written += len(line)

    def _unusable(self, error: OSError) -> StateUnusable:
        return StateUnusable(f"{self._path} cannot be written: {error.strerror}")

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._journal = os.fdopen(os.open(self._path, flags, 0o600), "ab", buffering=0)
        self._written = self._journal.tell()

    def _compact(self) -> None:
        """Write the journal anew, without what does not count any more. It stays as it is where there is no room."""
        lines = [_line(name, left) for name, lefts in self._left.items() for left in lefts]
        lines += [_dump([name, "temporary"]) for name in self._temporary | self._leftovers]
        self._content = sum(map(len, lines))
        try:
            paths.write_atomically(self._path, b"".join(lines).decode())
            before = self._journal
            self._open()
            before.close()
        except OSError as error:
            log.warning("the journal is not compacted: %s", self._unusable(error))
            self._content = self._written

    def _load(self) -> bool:
        """Read the journal; whether its last line is whole."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return True
        for line in data.splitlines():
            try:
                self._take(*json.loads(line))
            except (ValueError, TypeError):  # cut off by a kill
                continue
        return not data or data.endswith(b"\n")

    def _take(self, name: str, *rest: Any) -> None:
        if not rest:
            self._left.pop(name, None)
        elif rest == ("temporary",):
            self._leftovers.add(name)
        else:
            size, mtime_ns, lineage, growing_to, *text = rest
            left = Left(int(size), int(mtime_ns), str(lineage), growing_to, *text)
            self._left[name] = [*self._left.get(name, [])[-1:], left]


def _line(name: str, left: Left) -> bytes:
    text = [] if left.text is None else [left.text]
    return _dump([name, left.size, left.mtime_ns, left.lineage, left.growing_to, *text])


def _dump(words: list[Any]) -> bytes:
    return json.dumps(words).encode() + b"\n"
