"""What a server's files were, and when: the model that every answer of a mount is held against.

Each change goes through `History`, which makes it on the server and notes the state of the path from then on. Times
are those of `clock`; a change that takes a while belongs to both states for that long.
"""

from __future__ import annotations

import enum
import math
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.lab.memory_tree import Changes


class Kind(enum.Enum):
    ABSENT = "absent"
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "link"


@dataclass(slots=True)
class State:
    """What a path was from `since` to `until`."""

    since: float
    kind: Kind
    data: bytes = b""
    lineage: int = 0
    """Changes with everything but growth."""
    torn: bool = False
    """In the middle of a rewrite in place: nobody's version."""
    until: float = math.inf

    def __repr__(self) -> str:
        torn = ", torn" if self.torn else ""
        content = f" of {len(self.data)} bytes ({self.data[:8].decode()}…{torn})" if self.data else ""
        return f"<{self.kind.value}{content}, lineage {self.lineage}, {self.since:.3f} to {self.until:.3f}>"


class History:
    """The tree below `root`, made by `changes`. Paths are relative to the root."""

    def __init__(self, changes: Changes, root: bytes, clock: Callable[[], float]) -> None:
        self.changes = changes
        self.root = root
        self.clock = clock
        self._states: dict[bytes, list[State]] = {b"": [State(-math.inf, Kind.DIRECTORY)]}
        self._lineages = 0
        self._tags = 0

    @property
    def versions(self) -> int:
        """How many states of files there were."""
        return sum(state.kind is Kind.FILE for states in self._states.values() for state in states)

    # --- looking back ---------------------------------------------------------------------------------------------

    def now(self, path: bytes) -> State:
        """What a path is at present."""
        return self.states(path)[-1]

    def states(self, path: bytes, start: float = -math.inf, end: float = math.inf) -> list[State]:
        """What a path was at any moment of that time, oldest first."""
        known = self._states.get(path) or [State(-math.inf, Kind.ABSENT)]
        return [state for state in known if state.since <= end and state.until >= start]

    def children(self, directory: bytes) -> set[bytes]:
        """All names that there ever were in a directory."""
        return {
            posixpath.basename(path) for path in self._states if path and posixpath.dirname(path) == directory
        }

    # --- changes; each does nothing where it is not possible --------------------------------------------------------

    def write(self, path: bytes, size: int) -> None:
        """Write a file anew in place, all of it other bytes."""
        if self._writable(path):
            data = self._fresh(size)
            self._change(path, State(0, Kind.FILE, data), lambda: self.changes.write(self._at(path), data))

    def replace(self, path: bytes, size: int) -> None:
        """Rename another file into place."""
        if self._writable(path):
            data = self._fresh(size)
            self._change(path, State(0, Kind.FILE, data), lambda: self.changes.replace(self._at(path), data))

    def append(self, path: bytes, size: int) -> None:
        old = self.now(path)
        if old.kind is Kind.FILE:
            new = State(0, Kind.FILE, old.data + self._fresh(max(1, size)), old.lineage, old.torn)
            self._change(path, new, lambda: self.changes.append(self._at(path), new.data[len(old.data) :]))

    def grow_by_rename(self, path: bytes, size: int) -> None:
        """Rename a longer file with the same beginning into place, as rsync does."""
        old = self.now(path)
        if old.kind is Kind.FILE and not old.torn:
            new = State(0, Kind.FILE, old.data + self._fresh(max(1, size)), old.lineage)
            self._change(path, new, lambda: self.changes.replace(self._at(path), new.data))

    def rewrite_steps(self, path: bytes, size: int) -> Iterable[Callable[[], None]]:
        """The steps of a rewrite in place that takes its time: the first half, then the second."""
        data, half = self._fresh(size), size // 2

        def first() -> None:
            old = self.now(path)
            if old.kind is Kind.FILE:
                new = State(0, Kind.FILE, data[:half] + old.data[half:], torn=True)
                self._change(path, new, lambda: self.changes.write_at(self._at(path), 0, data[:half]))

        def second() -> None:
            old = self.now(path)
            if old.kind is Kind.FILE and old.torn:
                new = State(
                    0, Kind.FILE, old.data[:half] + data[half:] + old.data[size:], old.lineage, torn=True
                )
                self._change(path, new, lambda: self.changes.write_at(self._at(path), half, data[half:]))

        def last() -> None:
            old = self.now(path)
            if old.kind is Kind.FILE and old.torn:
                new = State(0, Kind.FILE, old.data[:size])
                self._change(path, new, lambda: self.changes.truncate(self._at(path), size))

        return first, second, last

    def remove(self, path: bytes) -> None:
        """Remove whatever is there, with all that is in it."""
        kind = self.now(path).kind
        if path and kind is not Kind.ABSENT:
            work = self.changes.rmtree if kind is Kind.DIRECTORY else self.changes.remove
            below = [other for other in self._states if other.startswith(path + b"/")]
            gone = [other for other in below if self.now(other).kind is not Kind.ABSENT]
            self._change(path, State(0, Kind.ABSENT), lambda: work(self._at(path)), gone)

    def mkdir(self, path: bytes) -> None:
        if self._vacant(path):
            self._change(path, State(0, Kind.DIRECTORY), lambda: self.changes.mkdir(self._at(path)))

    def symlink(self, path: bytes, target: bytes = b"a.pt") -> None:
        """Make a link, or have the one that is there lead elsewhere."""
        new = State(0, Kind.SYMLINK, target)
        if self._vacant(path):
            self._change(path, new, lambda: self.changes.symlink(self._at(path), target))
        elif self.now(path).kind is Kind.SYMLINK:
            self._change(path, new, lambda: self._move_link(self._at(path), target))

    def _move_link(self, path: bytes, target: bytes) -> None:
        temporary = posixpath.join(posixpath.dirname(path), b".temporary")
        self.changes.symlink(temporary, target)
        self.changes.rename(temporary, path)

    def become(self, path: bytes, kind: Kind, size: int) -> None:
        """Have another kind of thing by this name: a directory, or a file of this size."""
        if self.now(path).kind is not kind:
            self.remove(path)
            if kind is Kind.DIRECTORY:
                self.mkdir(path)
            else:
                self.write(path, size)

    # --- below ------------------------------------------------------------------------------------------------------

    def _change(self, path: bytes, new: State, work: Callable[[], None], gone: Iterable[bytes] = ()) -> None:
        if not new.lineage:
            self._lineages += 1
            new.lineage = self._lineages
        new.since = self.clock()
        work()
        end = self.clock()
        for one in gone:
            self._enter(one, State(new.since, Kind.ABSENT), end)
        self._enter(path, new, end)

    def _enter(self, path: bytes, new: State, end: float) -> None:
        states = self._states.setdefault(path, [State(-math.inf, Kind.ABSENT)])
        states[-1].until = end
        states.append(new)

    def _fresh(self, size: int) -> bytes:
        """Bytes that no file had before, in any place: also the first is another than those of late."""
        self._tags += 1
        tag = bytes([ord("A") + self._tags % 58]) + b"%07d" % self._tags
        return (tag * (size // 8 + 1))[:size]

    def _vacant(self, path: bytes) -> bool:
        parent = self.now(posixpath.dirname(path))
        return parent.kind is Kind.DIRECTORY and self.now(path).kind is Kind.ABSENT

    def _writable(self, path: bytes) -> bool:
        return self._vacant(path) or self.now(path).kind is Kind.FILE

    def _at(self, path: bytes) -> bytes:
        return self.root + b"/" + path
