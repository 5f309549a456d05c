"""The judge: what the server's paths were and when, when it could not be asked, and what an answer amounts to."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.times import Times

TTL = 2.0
"""Seconds: the mount's `--ttl`."""
SLACK = 1.5
"""Seconds by which a busy machine may be late."""
SETTLING = 4.0
"""Seconds before an open of which a change may still make the handle stale."""

PATIENCE = 9.0
"""Seconds after which an open may say that a file was written all the time: the mount's `--timeout`, nearly."""

RIGHT = "right"
FAULTS = (
    WRONG := "wrong bytes",
    STALE := "stale",
    INTERRUPTED := "EINTR",
    LIE := "said not to be there",
    STALE_GROWTH := "ESTALE of growth",
    STALE_HANDLE := "ESTALE without cause",
    NO_ANSWER := "no answer without cause",
    OTHER := "other errors",
)
"""What no trouble excuses."""

ABSENT, PRESENT = "absent", "present"
"""The state of a path that is not there; an answer that only says that something is."""
_SAYS = {
    errno.ENOENT: {ABSENT},
    errno.ENOTDIR: {ABSENT, "file", "link"},
    errno.EISDIR: {"directory"},
}
"""The states of which these errors are true."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer that a program got. Times are those of the monotonic clock.

    `saw`: the state that it shows, an int where it is how long a file is; "right" or "wrong bytes" where the program
    compared by itself. `opened`: when the handle was. `note`: more about bytes that are wrong.
    """

    deed: str
    path: str
    opened: float
    since: float
    until: float
    saw: str | int = RIGHT
    errno: int = 0
    note: str = ""


@dataclass(slots=True)
class State:
    """What a path was from `since` to `until`."""

    since: float
    what: str | int
    until: float = math.inf


class Ledger:
    """Changes are entered by the one thread that makes those of a path; any thread may ask for a verdict."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, list[State]] = {}
        self.silence = Times(clock)
        """While the server could not be asked, and the moments that a mount needs to find it again."""
        self.lost = Times(clock)
        """While a mount may know that the link is down: it shows what it last knew, however old that is."""
        self.unmounted = Times(clock)
        """While there was no mount."""
        self._shown: dict[tuple[str, str], tuple[float, float]] = {}
        """By deed and path: when an answer that was right came, and when the newest state that it fits began."""

    def have(self, path: str, what: str | int) -> None:
        """Begin with this state of a path."""
        self._states[path] = [State(-math.inf, what)]

    @contextmanager
    def change(self, path: str, what: str | int) -> Iterator[None]:
        """The block changes the path to this state; until its end both are true."""
        states = self._states[path]
        states.append(State(self._clock(), what))
        yield
        states[-2].until = self._clock()

    def now(self, path: str) -> str | int:
        """The state of a path at present."""
        return self._states[path][-1].what

    def verdict(self, seen: Seen) -> str:
        """`RIGHT`, one of `FAULTS`, or the name of the error that some trouble explains."""
        if seen.errno:
            return self._failure(seen)
        if seen.saw == WRONG:
            return WRONG
        if seen.path not in self._states or seen.saw == RIGHT:
            return RIGHT
        window = self._true(seen, seen.since)
        if _fits(seen.saw, window):
            if window[-1].what == seen.saw:
                self._shown[seen.deed, seen.path] = seen.until, window[-1].since
            return RIGHT
        return STALE if _fits(seen.saw, self._until(seen)) else WRONG

    def explain(self, seen: Seen) -> str:
        """The answer beside the states that it could have shown."""
        start = self.silence.before(seen.since, TTL + SLACK)
        states = [
            f"{state.what} from {state.since - seen.since:+.2f} to {state.until - seen.since:+.2f}"
            for state in self._until(seen)[-4:]
        ]
        said = errno.errorcode[seen.errno] if seen.errno else f"saw {seen.saw}"
        took = seen.until - seen.since
        return (
            f"{seen.deed} {seen.path}: {said} after {took:.3f} s; fresh from {start - seen.since:+.2f}; "
            f"opened {seen.opened - seen.since:+.2f}; states {states} {seen.note}"
        )

    def _failure(self, seen: Seen) -> str:
        name = errno.errorcode.get(seen.errno, str(seen.errno))
        match seen.errno:
            case errno.EINTR:
                return INTERRUPTED
            case errno.ENOTCONN | errno.ECONNABORTED:
                return name if self.unmounted.touch(seen.opened, seen.until) else OTHER
            case errno.ENOENT | errno.ENOTDIR | errno.EISDIR:
                if self.unmounted.touch(seen.since, seen.until):
                    return "ENOTCONN"  # the empty directory below the mount
                states = {state.what for state in self._true(seen, seen.since)}
                return name if states & _SAYS[seen.errno] else LIE
            case errno.ESTALE:
                window = self._true(seen, seen.opened, SETTLING)
                if window and isinstance(window[-1].what, int):
                    waited = seen.opened >= seen.since and seen.until - seen.since >= PATIENCE
                    return name if waited else STALE_GROWTH
                return name if len(window) > 1 else STALE_HANDLE
            case errno.ETIMEDOUT | errno.EHOSTUNREACH:
                return name if self.silence.touch(seen.since, seen.until) else NO_ANSWER
        return OTHER

    def _true(self, seen: Seen, moment: float, more: float = 0.0) -> list[State]:
        """The states that an answer of that moment may show, oldest first; `more`: seconds that they may be older.

        While the link is lost that is also what was last known: all that there was, but nothing older than was shown.
        """
        start = self.silence.before(moment, TTL + SLACK) - more
        known = math.inf
        if self.lost.touch(moment, seen.until):
            shown, known = self._shown.get((seen.deed, seen.path), (-math.inf, -math.inf))
            if shown > moment or self.unmounted.touch(shown, seen.until):
                known = -math.inf
        found: list[State] = []
        for state in reversed(self._until(seen)):
            if state.until < start and state.since < known:
                break
            found.append(state)
        return found[::-1]

    def _until(self, seen: Seen) -> list[State]:
        """All states that there were until the answer came."""
        states = self._states.get(seen.path, [])
        count = len(states)
        while count and states[count - 1].since > seen.until:
            count -= 1
        return states[:count]


def _fits(saw: str | int, states: list[State]) -> bool:
    """Whether it is one of these states, or, for a file that only grows, a length between them."""
    if isinstance(saw, int):
        lengths = [state.what for state in states if isinstance(state.what, int)]
        return bool(lengths) and lengths[0] <= saw <= lengths[-1]
    return any(saw == state.what or (saw == PRESENT and state.what != ABSENT) for state in states)
