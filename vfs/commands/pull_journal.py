"""What `pull` put into a directory of this machine: tells a file that is as we left it from one that was changed here.

For each experiment in the directory a journal of one JSON line per file or symlink, kept with the program's state and not in
the directory. A line is written before the file takes its place, so that after a kill at any moment each file is one that
some line describes; another names the temporary file, so that the next pull removes it. One process at a time writes into
the copy of one experiment, which a lock sees to.
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
from typing import Any

from vfs.base import paths
from vfs.base.errors import DestinationBusy, StateUnusable
from vfs.base.file_version import Change, Version, classify
from vfs.base.places import state_dir
from vfs.commands.pull_dest import LocalEntry, PullDirectory

log = logging.getLogger(__name__)

COMPACT = 4
"""A journal that has grown to COMPACT times its last compacted size, and beyond SMALL bytes, is written anew."""
SMALL = 64 << 10


class Action(enum.Enum):
    """What to do with one file."""

    SAME = "same"
    NEW = "new"
    GROW = "grow"
    """The file here is the beginning of the one on the server, if its bytes are of the same lineage."""
    REPLACE = "replace"
    KEEP = "keep"
    """It was changed here: it stays, unless `--overwrite` is given."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file as we left it: size in bytes, mtime in nanoseconds, the lineage of its bytes; or a symlink.

    `growing_to` is set while a tail is being appended: then any size in between is our own doing.
    """

    size: int
    mtime_ns: int
    lineage: str
    growing_to: int | None = None
    text: str | None = None
    """Where a symlink leads; the other fields mean nothing then."""

    def describes(self, found: LocalEntry) -> bool:
        """Whether the file is still as we left it."""
        if self.text is not None or not found.is_file:
            return self.text is not None and self.text == found.text
        status = found.stat
        if self.growing_to is not None:
            return self.size <= status.st_size <= self.growing_to
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def left_link(text: str) -> Left:
    """A symlink as we left it."""
    return Left(0, 0, "", text=text)


def decide(found: LocalEntry | None, left: Left | None, version: Version, *, overwrite: bool) -> Action:
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
    """The journals of one directory. Names are relative to it; an experiment is the first word of a name.

    `with Pulled(directory) as pulled:` holds the locks of those that were taken. Raises StateUnusable when nothing can be
    written there, as all that writes here.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._real = os.fsencode(os.path.realpath(directory))
        self._journals: dict[str, Journal] = {}

    def __enter__(self) -> Pulled:
        lock = self._place(b"").with_suffix(".lock")
        try:
            paths.make_private(lock.parent)
            self._lock = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(lock, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        for name, journal in self._journals.items():
            journal.close()
            _HELD.discard((self._real, name))
        os.close(self._lock)

    def take(self, name: str) -> Journal:
        """The journal that a name is in, locked. Raises DestinationBusy when another process pulls that experiment here."""
        experiment = name.partition("/")[0]
        journal = self._journals.get(experiment)
        if journal is None:
            path = self._place(os.fsencode(experiment)).with_suffix(".jsonl")
            held = self._real, experiment
            try:
                if held in _HELD:  # by this process, which no lock of its own keeps out
                    raise BlockingIOError
                # one byte of the file for each experiment
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(path.stem, 16) >> 2)
            except (BlockingIOError, PermissionError) as error:
                raise DestinationBusy(f"another pull is writing {self._directory / experiment}") from error
            except OSError as error:
                raise _unusable(path, error) from error
            try:
                journal = Journal(path)
            except OSError as error:
                raise _unusable(path, error) from error
            _HELD.add(held)
            self._journals[experiment] = journal
        return journal

    def _place(self, experiment: bytes) -> Path:
        name = hashlib.sha256(self._real + b"\0" + experiment).hexdigest()[:16]
        return state_dir() / "pulls" / name

    def clean(self, destination: PullDirectory) -> None:
        """Remove what stopped pulls left half-made."""
        for journal in self._journals.values():
            journal.clean(destination)


_HELD: set[tuple[bytes, str]] = set()
"""Directories and experiments that this process has taken."""


class Journal:
    """What was left of one experiment. Its holder has the lock."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._left: dict[str, list[Left]] = {}
        self._temporary: dict[str, list[Any]] = {}
        """Temporary files, and what each is to become: name, size and mtime; nothing if no pull can go on with it."""
        self._leftovers: dict[str, list[Any]] = {}
        """The temporary files of pulls that were stopped."""
        self._written = self._content = self._load()
        """Bytes in it now, and after it was last compacted."""

    def left(self, name: str, found: LocalEntry) -> Left | None:
        """The state in which we left the file or symlink; None if `found` differs from it."""
        return next((left for left in reversed(self._left.get(name, ())) if left.describes(found)), None)

    def knows(self, name: str) -> bool:
        """Whether a pull put a file or a symlink there once."""
        return name in self._left

    def note(self, name: str, left: Left) -> None:
        """Note that the file will be, or is, as `left` says. The line before counts, too, until the next one."""
        before = self._left.get(name, [])[-1:]
        if before != [left]:
            self._write(_line(name, left))
            self._left[name] = [*before, left]

    def settle(self, name: str, left: Left) -> None:
        """Note that the file is as `left` says."""
        self._write(_line(name, left))
        self._left[name] = [left]
        if self._written > max(SMALL, COMPACT * self._content):
            self.compact()

    def forget(self, name: str) -> None:
        """Note that no file of this journal is there any more."""
        if self._left.pop(name, None) is not None:
            self._write(_dump([name]))

    def begin(self, temporary: str, name: str = "", version: Version | None = None) -> None:
        """Note that a temporary file will be made; the next pull may go on with it for `name` in that version."""
        becomes = [] if version is None else [name, version.size, version.mtime]
        if self._leftovers.pop(temporary, None) is None:
            self._write(_dump([temporary, "temporary", *becomes]))
        self._temporary[temporary] = becomes

    def half(self, name: str, version: Version) -> str | None:
        """The unfinished temporary file of this version that a stopped pull left."""
        becomes = [name, version.size, version.mtime]
        return next((half for half, left in self._leftovers.items() if left == becomes), None)

    def over(self, temporary: str) -> None:
        """Note that the temporary file is gone, or in its place."""
        self._temporary.pop(temporary, None)

    def clean(self, destination: PullDirectory) -> None:
        """Remove what stopped pulls left half-made."""
        for name in sorted(self._leftovers):
            try:
                destination.remove(name)
            except OSError as error:
                log.info("%s stays: %s", name, error)
        if self._leftovers:
            self._leftovers.clear()
            self.compact()

    def _write(self, line: bytes) -> None:
        try:
            # opened for each line: there may be more experiments than a process may have open files
            with open(self._path, "ab", buffering=0, opener=_private) as journal:
                if journal.write(line) != len(line):
                    journal.truncate(self._written)  # half a line would spoil the next one
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _unusable(self._path, error) from error
        self._written += len(line)

    def close(self) -> None:
        """Compact it, if anything was written."""
        if self._written != self._content:
            self.compact()

    def compact(self) -> None:
        """Write it anew, without what no longer counts. Without room for that it stays as it is."""
        lines = [_line(name, left) for name, lefts in self._left.items() for left in lefts]
        begun = self._temporary | self._leftovers
        lines += [_dump([name, "temporary", *becomes]) for name, becomes in begun.items()]
        try:
            paths.write_atomically(self._path, b"".join(lines).decode())
            self._written = sum(map(len, lines))
        except OSError as error:
            log.warning("the journal is not compacted: %s", _unusable(self._path, error))
        self._content = self._written

    def _load(self) -> int:
        """Read it, and end a line that a kill cut off; how long it is."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        for line in data.splitlines():
            try:
                self._take(*json.loads(line))
            except (ValueError, TypeError):
                continue
        if not data or data.endswith(b"\n"):
            return len(data)
        with open(self._path, "ab", opener=_private) as journal:
            journal.write(b"\n")
        return len(data) + 1

    def _take(self, name: str, *rest: Any) -> None:
        if not rest:
            self._left.pop(name, None)
        elif rest[0] == "temporary":
            self._leftovers[name] = list(rest[1:])
        else:
            size, mtime_ns, lineage, growing_to, *text = rest
            left = Left(int(size), int(mtime_ns), str(lineage), growing_to, *text)
            self._left[name] = [*self._left.get(name, [])[-1:], left]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _unusable(path: Path, error: OSError) -> StateUnusable:
    return StateUnusable(f"{path} cannot be written: {error.strerror}")


def _line(name: str, left: Left) -> bytes:
    text = [] if left.text is None else [left.text]
    return _dump([name, left.size, left.mtime_ns, left.lineage, left.growing_to, *text])


def _dump(words: list[Any]) -> bytes:
    return json.dumps(words).encode() + b"\n"
