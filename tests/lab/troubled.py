"""The machine on a mount with what the world does besides: signals, a server that pauses, links that move, a full memory."""

from __future__ import annotations

import errno
import math
import signal
import sys
import threading
from contextlib import nullcontext

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.lab.history import Kind
from tests.lab.machine import DIRECTORIES, FILES, LINK, Machine, Opened
from tests.lab.mounted import Mounted
from tests.lab.on_a_mount import OnAMount
from tests.lab.processes import stopped
from tests.lab.sshd import Sshd
from tests.lab.times import Times

FLOOD = "flood.bin"
"""A file of the server that puts all others out of the mount's memory; whoever mounts makes it."""
NOWHERE = b"../.artisync-no-such-target/"
"""What a link that leads nowhere is shown as, before its own text."""
OFFLINE = 1.0
"""Seconds of a pause from which on a mount may count the link as down: it shows what it last knew, however old."""
ONLINE = 0.5
"""Seconds after such a pause in which it has its next answer."""
SIGNALS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGALRM)


def catch_signals() -> None:
    """Handlers that do nothing, and do not have calls begun again."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)


class OnATroubledMount(OnAMount):
    """`pauses` are those of its server."""

    def __init__(self, mounted: Mounted, sshd: Sshd, name: str, pauses: Times) -> None:
        self.pauses = pauses
        self.lost = Times(self.now)
        """The pauses that are long enough to be taken for a link that is down."""
        self.faults: list[AssertionError] = []
        """What its machine found: hypothesis runs an example again, in another time, and may then tell of that."""
        self._pausing: threading.Thread | None = None
        super().__init__(mounted, sshd, name)

    def pause(self, seconds: float) -> None:
        """The server is silent from now on, for so long."""
        self._end_pause()
        begun = threading.Event()
        self._pausing = threading.Thread(target=self._pause, args=(seconds, begun))
        self._pausing.start()
        begun.wait()

    def _pause(self, seconds: float, begun: threading.Event) -> None:
        lost = self.lost.during(ONLINE) if seconds > OFFLINE else nullcontext()
        with self.pauses.during(0), lost, stopped(self._sshd.signal):
            begun.set()
            threading.Event().wait(seconds)

    def _end_pause(self) -> None:
        if self._pausing is not None:
            self._pausing.join()

    def alarm(self, seconds: float) -> None:
        """A signal every so many seconds, 0 for none."""
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def flood(self) -> None:
        """Read what leaves no room in memory for anything else."""
        with open(self._mounted.path / FLOOD, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    def go_offline(self) -> None:
        self._end_pause()
        super().go_offline()

    def close(self) -> None:
        self.alarm(0)
        self._end_pause()
        super().close()


class Troubled(Machine):
    """Of the same promises: a pause makes answers as much older as it lasts, a long one of any age; nothing else is excused."""

    client: OnATroubledMount
    several = Machine.several

    def teardown(self) -> None:
        error = sys.exc_info()[1]  # an example that failed is torn down while its error is on the way
        if isinstance(error, AssertionError):
            self.client.faults.append(error)
        super().teardown()

    def _fresh(self, moment: float) -> float:
        if self.client.lost.touch(moment, self.client.now()):
            return -math.inf
        return self.client.pauses.before(moment, self.client.ttl + self.client.slack)

    @rule(seconds=st.sampled_from((0.3, 0.8, 3.0)))
    def pause(self, seconds: float) -> None:
        if self._reachable():
            self.client.pause(seconds)

    @rule(seconds=st.sampled_from((0.0, 0.02, 0.2)))
    def alarm(self, seconds: float) -> None:
        self.client.alarm(seconds)

    @rule()
    def flood(self) -> None:
        if self._reachable():
            self.client.flood()

    @rule(
        path=st.sampled_from((*FILES, *DIRECTORIES)),
        kind=st.sampled_from((Kind.FILE, Kind.DIRECTORY)),
        size=Machine.sizes,
    )
    def become(self, path: bytes, kind: Kind, size: int) -> None:
        self.history.become(path, kind, size)

    @rule(where=st.sampled_from((b"a.pt", b"run.log", b"d", b"nowhere")))
    def move_link(self, where: bytes) -> None:
        self.history.symlink(LINK, where)

    @rule(several=several)
    def read_link(self, several: list[tuple[float, str, bytes, int]]) -> None:
        self._ask(
            LINK,
            lambda: self.client.target(LINK, self._later(several)),
            lambda state, seen, _: state.kind is Kind.SYMLINK and seen in (state.data, NOWHERE + state.data),
        )

    def _explain_error(self, path: bytes, error: OSError, start: float, opened: Opened | None = None) -> None:
        assert error.errno != errno.EINTR, f"EINTR for {path!r}"
        super()._explain_error(path, error, start, opened)
