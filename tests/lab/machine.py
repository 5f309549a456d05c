"""Random changes on a server and random programs on a mount of it, held against the server's own history.

`Machine` is a hypothesis state machine over a `Client`: a mount in memory, or a real one. Nothing may be mixed, nothing
older than the TTL while the server can be asked, nothing absent that was not absent, no handle stale without cause.
"""

from __future__ import annotations

import errno
import math
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from tests.lab.history import Kind, State
from tests.lab.programs import Client, Handle, Later

SINGLE_READ = 32 << 10
"""A file up to this long may be seen in the middle of a rewrite, as by a local read(2)."""
SETTLING = 8.0
"""Seconds before an open of which a rewrite may still make the handle stale."""
_NOT_A_FILE = {
    errno.ENOENT: {Kind.ABSENT},
    errno.ENOTDIR: {Kind.ABSENT, Kind.FILE},
    errno.EISDIR: {Kind.DIRECTORY},
    errno.EOPNOTSUPP: {Kind.DIRECTORY},
}
"""What explains an error that says what there is."""
UNREACHABLE = {errno.EHOSTUNREACH, errno.ETIMEDOUT}

FILES = (b"a.pt", b"run.log", b"d/a.pt", b"d/run.log", b"d/s/b.bin")
DIRECTORIES = (b"d", b"d/s")
LINK = b"link"
SIZES = (0, 1, 5_000, SINGLE_READ, 40_000, 300_000, (1 << 20) + 5, (2 << 20) + 100_000)


@dataclass(eq=False)
class Opened:
    """A handle with what is known of it."""

    path: bytes
    since: float
    handle: Handle
    got: list[tuple[int, bytes]] = field(default_factory=list)
    here: list[tuple[int, int]] = field(default_factory=list)
    """Ranges that were given since memory was last emptied."""


class Machine(RuleBasedStateMachine):
    """A subclass calls `begin` when it is initialized."""

    handles: Bundle[Opened] = Bundle("handles")
    files = st.sampled_from(FILES)
    paths = st.sampled_from((*FILES, *DIRECTORIES, LINK))
    sizes = st.sampled_from(SIZES)
    delays = st.sampled_from((0.0, 0.01, 0.06, 0.2, 0.5, 1.1))
    changes = st.sampled_from(
        (
            *("write", "write as much", "rewrite slowly", "replace", "append", "grow by rename"),
            *("remove", "mkdir", "symlink"),
        )
    )
    several = st.lists(st.tuples(delays, changes, paths, sizes), max_size=3)

    client: Client

    made = st.lists(st.tuples(files, sizes), max_size=5)

    def begin(self, client: Client, made: list[tuple[bytes, int]]) -> None:
        """Start with these files on the server; a subclass calls it first."""
        self.client = client
        self.offline_since = math.inf
        self.opened: list[Opened] = []
        self.history = self.client.history
        for directory in DIRECTORIES:
            self.history.mkdir(directory)
        for path, size in made:
            self.history.write(path, size)
        self.client.wait(SETTLING / 2)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    # --- the server -----------------------------------------------------------------------------------------------

    @rule(change=changes, path=paths, size=sizes)
    def change(self, change: str, path: bytes, size: int) -> None:
        for delay, work in self._works(0.0, change, path, size):
            self.client.wait(delay)
            work()

    def _works(self, delay: float, change: str, path: bytes, size: int) -> Later:
        history = self.history
        if path in FILES:
            if path.endswith(b".log"):
                # Only appended to, or begun anew: with the same length in the same second that is not told apart.
                size += size == len(history.now(path).data)
                change = "write" if change in ("rewrite slowly", "write as much") else change
            if change == "rewrite slowly":
                return [
                    (delay + 0.3 * step, work) for step, work in enumerate(history.rewrite_steps(path, size))
                ]
            works: dict[str, Callable[[], None]] = {
                "write": lambda: history.write(path, size),
                "write as much": lambda: history.write(path, len(history.now(path).data)),
                "replace": lambda: history.replace(path, size),
                "append": lambda: history.append(path, size),
                "grow by rename": lambda: history.grow_by_rename(path, size),
                "remove": lambda: history.remove(path),
            }
        elif path in DIRECTORIES:
            works = {"mkdir": lambda: history.mkdir(path), "remove": lambda: history.remove(path)}
            works["write"] = lambda: history.write(path, size)
        else:
            works = {"symlink": lambda: history.symlink(path), "remove": lambda: history.remove(path)}
        return [(delay, works[change])] if change in works else []

    def _later(self, several: list[tuple[float, str, bytes, int]]) -> Later:
        return [one for drawn in several for one in self._works(*drawn)]

    @rule(seconds=st.sampled_from((0.1, 0.5, 1.0, 2.5, 12.0)))
    def wait(self, seconds: float) -> None:
        self.client.wait(seconds)

    @rule()
    def evict(self) -> None:
        self.client.evict()
        for opened in self.opened:
            opened.here.clear()

    @rule()
    def go_offline(self) -> None:
        self.offline_since = min(self.offline_since, self.client.now())
        self.client.go_offline()

    @rule()
    def go_online(self) -> None:
        self.client.go_online()
        self.offline_since = math.inf

    # --- programs -------------------------------------------------------------------------------------------------

    @rule(path=paths, several=several)
    def look(self, path: bytes, several: list[tuple[float, str, bytes, int]]) -> None:
        def explains(state: State, seen: tuple[Kind, int], start: float) -> bool:
            if state.kind is not seen[0]:
                return False
            return (
                state.kind is not Kind.FILE or seen[1] == len(state.data) or self._half(state, seen[1], start)
            )

        self._ask(path, lambda: self.client.look(path, self._later(several)), explains)

    @rule(path=st.sampled_from((b"", *DIRECTORIES)), several=several)
    def list_names(self, path: bytes, several: list[tuple[float, str, bytes, int]]) -> None:
        start = self.client.now()
        try:
            names = self.client.names(path, self._later(several))
        except OSError as error:
            # A directory that has just become a file may be told to be gone.
            became = any(state.kind is Kind.FILE for state in self._window(path, start))
            if not (became and error.errno == errno.ENOENT):
                self._explain_error(path, error, start)
            return
        known = self.history.children(path)
        assert names <= known | {b".temporary"}, names - known
        for name in known:
            kinds = {state.kind for state in self._window(posixpath.join(path, name), start)}
            if name in names:
                assert kinds - {Kind.ABSENT}, (name, "is listed and was not there")
            else:
                assert Kind.ABSENT in kinds, (name, "is not listed and was there")

    @rule(path=files, several=several)
    def read(self, path: bytes, several: list[tuple[float, str, bytes, int]]) -> None:
        self._ask(path, lambda: self.client.read(path, self._later(several)), self._explains_bytes)

    def _explains_bytes(self, state: State, data: bytes, start: float) -> bool:
        if state.kind is not Kind.FILE or (state.torn and len(state.data) > SINGLE_READ):
            return False
        return state.data == data or (state.data.startswith(data) and self._half(state, len(data), start))

    def _half(self, state: State, size: int, start: float) -> bool:
        """Whether a file that was just written when we looked may have been seen with fewer bytes."""
        if self.client.slack == 0 or size >= len(state.data):
            return False
        return not self._reachable() or state.since >= self._fresh(start)

    @rule(target=handles, path=files)
    def open(self, path: bytes) -> Any:
        start = self.client.now()
        # While the server cannot be asked, the last version that was known is opened.
        since = start if self._reachable() else -math.inf
        try:
            self.opened.append(Opened(path, since, self.client.open(path)))
            return self.opened[-1]
        except OSError as error:
            self._explain_error(path, error, start)
            return Opened(path, since, _Closed())

    @rule(
        opened=handles, offset=st.sampled_from((0, 1, 4_000, 100_000, 1 << 20)), length=sizes, several=several
    )
    def read_handle(
        self, opened: Opened, offset: int, length: int, several: list[tuple[float, str, bytes, int]]
    ) -> None:
        later = self._later(several)
        here = any(start <= offset and offset + length <= end for start, end in opened.here)
        self._got(opened, offset, lambda: opened.handle.read(offset, length, later), here=here)

    @rule(opened=handles)
    def follow(self, opened: Opened) -> None:
        """Read on at what was the end, as `tail -f` does."""
        offset = max((at + len(data) for at, data in opened.got if data), default=0)
        start = self.client.now()
        data = self._got(opened, offset, lambda: opened.handle.read_on(offset))
        if data is not None and self._reachable():
            window = self._window(opened.path, start)
            ends = {len(state.data) for state in window if state.kind is Kind.FILE}
            ever = self._states(opened.path, self._fresh(opened.since))
            gone = len({state.lineage for state in ever}) > 1
            if gone:  # the end is where it was, for as much as the kernel still has of that version
                ends |= {len(state.data) for state in ever if self._has(state, opened.got)}
            assert offset + len(data) in ends or (gone and not data), (
                "the end is not where it was",
                offset,
                len(data),
                ends,
            )

    @rule(opened=handles, size=sizes)
    def grow_evicted(self, opened: Opened, size: int) -> None:
        """The file grows while nothing of it is in memory, and is read on."""
        self.evict()
        self.history.append(opened.path, size)
        self.client.wait(self.client.ttl)
        self.follow(opened)

    @rule(opened=handles)
    def read_again_offline(self, opened: Opened) -> None:
        """All that the handle gave and that is here, while nobody can be asked."""
        reachable = self._reachable()
        self.go_offline()
        for start, end in list(opened.here):
            read = partial(opened.handle.read, start, end - start)
            self._got(opened, start, read, here=True)
        if reachable:
            self.go_online()

    @rule(opened=consumes(handles))
    def close(self, opened: Opened) -> None:
        opened.handle.close()

    # --- what must hold -------------------------------------------------------------------------------------------

    def _got(
        self, opened: Opened, offset: int, work: Callable[[], bytes], *, here: bool = False
    ) -> bytes | None:
        if isinstance(opened.handle, _Closed):
            return None
        start = self.client.now()
        try:
            data = work()
        except OSError as error:
            self._explain_error(opened.path, error, start, opened)
            number = error.errno
            assert not here or number not in UNREACHABLE, "what is here is not given"
            return None
        opened.got.append((offset, data))
        opened.here.append((offset, offset + len(data)))
        window = self._states(opened.path, self._fresh(opened.since))
        whole = [state for state in window if not state.torn or len(state.data) <= SINGLE_READ]
        one = any(self._has(state, opened.got) for state in whole)
        assert one, (
            "no one version has all that the handle gave",
            [(at, piece[:8]) for at, piece in opened.got],
        )
        return data

    @staticmethod
    def _has(state: State, got: list[tuple[int, bytes]]) -> bool:
        """Whether a file of this state has all of these bytes."""
        return state.kind is Kind.FILE and all(state.data[at : at + len(piece)] == piece for at, piece in got)

    def _ask(
        self, path: bytes, work: Callable[[], Any], explains: Callable[[State, Any, float], bool]
    ) -> Any:
        start = self.client.now()
        try:
            seen = work()
        except OSError as error:
            self._explain_error(path, error, start)
            return None
        window = self._window(path, start)
        if not any(explains(state, seen, start) for state in window):
            late = any(explains(state, seen, start) for state in self._states(path, -math.inf))
            short = seen[:40] if isinstance(seen, bytes) else seen
            raise AssertionError(("is older than the TTL" if late else "was never so", path, short, window))
        return seen

    def _explain_error(self, path: bytes, error: OSError, start: float, opened: Opened | None = None) -> None:
        recent = self._states(path, self._fresh(start))
        if error.errno in _NOT_A_FILE:
            assert opened is None, f"an open file is never {errno.errorcode[error.errno]}"
            kinds = {state.kind for state in recent}
            for above in _ancestors(path):
                within = self._states(above, self._fresh(start))
                kinds |= {Kind.ABSENT for state in within if state.kind is not Kind.DIRECTORY}
            assert kinds & _NOT_A_FILE[error.errno], (path, errno.errorcode[error.errno], recent)
        elif error.errno == errno.ESTALE:
            since = self._fresh(opened.since if opened is not None else start) + self.client.slack - SETTLING
            states = self._states(path, since)
            while states and states[0].kind is Kind.ABSENT:  # what came to be has not been replaced
                del states[0]
            lineages = {state.lineage for state in states}
            assert len(lineages) > 1 or any(state.torn for state in states), (
                path,
                "is stale without cause",
                states,
            )
        else:
            assert error.errno in UNREACHABLE, error
            assert not self._reachable(), error

    def _reachable(self) -> bool:
        return self.offline_since == math.inf

    def _window(self, path: bytes, start: float) -> list[State]:
        """What a path may be told to be: what it was within the TTL, or ever, if the server cannot be asked."""
        if not self._reachable():
            return self._states(path, -math.inf)
        return self._states(path, self._fresh(start))

    def _fresh(self, moment: float) -> float:
        """The oldest view that may be shown at that moment, while the server can be asked."""
        return moment - self.client.ttl - self.client.slack

    def _states(self, path: bytes, start: float) -> list[State]:
        return self.history.states(path, start, self.client.now())


class _Closed:
    """Stands for a file that could not be opened."""

    def read(self, offset: int, length: int, later: Later = ()) -> bytes:  # type: ignore[assignment]
        raise OSError(errno.EBADF, "not open")

    def read_on(self, offset: int) -> bytes:
        raise OSError(errno.EBADF, "not open")

    def close(self) -> None:
        pass


def _ancestors(path: bytes) -> list[bytes]:
    words = path.split(b"/")[:-1]
    return [b"/".join(words[: count + 1]) for count in range(len(words))]
