"""What `pull` put into a directory of this machine: tells a file that is as we left it from one that was changed here.

A journal of one JSON line per file, kept with the program's state and not in the directory. A line is written before
the file takes its place, so that after a kill at any moment each file is one that some line describes. One process
writes into one directory at a time, which a lock on the journal sees to.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vfs import config
from vfs.errors import DestinationBusy
from vfs.version import Change, Version, classify


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
    """A file as we left it: size in bytes, mtime in nanoseconds, of which lineage its bytes are.

    `growing_to` is set while a tail is being appended: then any size in between is our own doing.
    """

    size: int
    mtime_ns: int
    lineage: str
    growing_to: int | None = None

    def describes(self, found: os.stat_result) -> bool:
        """Whether the file is still as we left it."""
        if self.growing_to is not None:
            return self.size <= found.st_size <= self.growing_to
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


def decide(found: os.stat_result | None, left: Left | None, version: Version, *, overwrite: bool) -> Action:
    """What to do with a file, given what is here (`found`), how we left it, and the server's version. Pure."""
    if found is None:
        return Action.NEW
    if not stat.S_ISREG(found.st_mode):
        return Action.KEEP
    if left is not None and left.growing_to is not None:
        return Action.GROW if left.growing_to <= version.size else Action.REPLACE
    if (found.st_size, int(found.st_mtime)) == (version.size, version.mtime):
        return Action.SAME
    if left is None:
        return Action.REPLACE if overwrite else Action.KEEP
    grown = classify(Version(left.size, left.mtime_ns // 1_000_000_000), version) is Change.GROWN
    return Action.GROW if grown else Action.REPLACE


class Pulled:
    """The journal of one directory. `with Pulled(directory) as pulled:` holds its lock.

    Raises DestinationBusy when another process pulls into the same directory, OSError when it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:16]
        self._directory = directory
        self._path = config.state_dir() / "pulls" / f"{name}.jsonl"
        self._left: dict[str, list[Left]] = {}

    def __enter__(self) -> Pulled:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
            self._journal = open(self._path, "ab", buffering=0)
        except BlockingIOError as error:
            os.close(self._lock)
            raise DestinationBusy(f"another pull is writing into {self._directory}") from error
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._journal.close()
            lines = [_line(name, left) for name, lefts in self._left.items() for left in lefts]
            config.write_atomically(self._path, b"".join(lines).decode())
        finally:
            os.close(self._lock)

    def left(self, name: str, found: os.stat_result) -> Left | None:
        """How we left the file, if what was `found` is that."""
        return next((left for left in reversed(self._left.get(name, ())) if left.describes(found)), None)

    def note(self, name: str, left: Left) -> None:
        """The file will be, or is, as `left` says. The line before it counts too, until the next one."""
        before = self._left.get(name, [])[-1:]
        if before != [left]:
            self._left[name] = [*before, left]
            self._journal.write(_line(name, left))

    def settle(self, name: str, left: Left) -> None:
        """The file is as `left` says, and as nothing else."""
        self._left[name] = [left]
        self._journal.write(_line(name, left))

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                name, size, mtime_ns, lineage, growing_to = json.loads(line)
                left = Left(int(size), int(mtime_ns), str(lineage), growing_to)
            except (ValueError, TypeError):  # cut off by a kill
                continue
            self._left[name] = [*self._left.get(name, [])[-1:], left]


def _line(name: str, left: Left) -> bytes:
    return json.dumps([name, left.size, left.mtime_ns, left.lineage, left.growing_to]).encode() + b"\n"
