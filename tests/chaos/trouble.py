"""What goes wrong: each trouble begins, lasts for seconds and is over."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests.chaos.ledger import Ledger
from tests.chaos.life import LIVE, Life
from tests.chaos.mount import Mount
from tests.chaos.reader import SIGNALS
from tests.lab.processes import stopped
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

Action = Callable[[float], None]

RECOVERY = 6.0
"""Seconds in which a mount finds a server again that it has lost: it tries after 1 s, 1.3 s, …"""
PAUSE = (0.3, 3.0)
"""Seconds that a server is silent and nothing is lost."""
OFFLINE = 1.0
"""Seconds of silence after which a mount may count the link as down."""
ONLINE = 0.5
"""Seconds after such a silence in which it has its next answer."""
SIGNAL_EVERY = 0.02
SETTLED = 0.1
"""Seconds that a slow link may be behind when it counts as sound again."""


class Programs(Protocol):
    """Those that read."""

    def signal(self, number: int) -> None:
        """Send it to any one of them; SIGSTOP is followed by SIGCONT."""


class Trouble:
    """All that can happen to a server, a link, a mount, its cache and its readers.

    Actions take the seconds that they may last; the ledger knows when the server cannot be asked.
    """

    def __init__(
        self, sshd: Sshd, relay: Relay, mount: Mount, life: Life, ledger: Ledger, chance: random.Random
    ) -> None:
        self._sshd, self.relay, self._mount, self._life = sshd, relay, mount, life
        self._ledger, self._chance = ledger, chance
        self.programs: Programs | None = None

    def actions(self) -> dict[str, Action]:
        """By name. What damages the cache or moves is for mounts that claim to bear it."""
        outages: dict[str, Action] = {
            "connections reset": lambda _: self.relay.reset(),
            "sessions killed": lambda _: self._sshd.kill_sessions(),
            "black hole": self._black_hole,
            "refused": self._refuse,
            "slow link": self._slow,
            "long way": self._delay,
            "flapping": self._flap,
            "server stopped": self._stop_server,
            "server restarted": self._restart_server,
            "laptop asleep": self._sleep,
        }
        others: dict[str, Action] = {
            "server paused": self._pause_server,
            "server paused, again and again": self._pause_often,
            "link held": self._hold_link,
            "file replaced": self._replace,
            "signals": self._signal,
            "memory flooded": self._flood,
        }
        if self._mount.is_ours:
            outages |= {"mount killed": self._kill, "address moved": self._move}
            others |= {"cache damaged": self._damage, "cache deleted": self._delete}
        return {name: self._lost(action) for name, action in outages.items()} | others

    def _lost(self, action: Action) -> Action:
        def act(seconds: float) -> None:
            with self._ledger.silence.during(RECOVERY), self._ledger.lost.during(RECOVERY):
                action(seconds)

        return act

    # --- the mount has to find the server again ---------------------------------------------------------------------

    def _black_hole(self, seconds: float) -> None:
        self.relay.blackhole()
        time.sleep(seconds)
        self.relay.blackhole(False)

    def _refuse(self, seconds: float) -> None:
        self.relay.refuse()
        self.relay.reset()
        time.sleep(seconds)
        self.relay.refuse(False)

    def _slow(self, seconds: float) -> None:
        self.relay.slow(0.5)
        time.sleep(seconds)
        self.relay.slow(0)
        end = time.monotonic() + seconds
        while self.relay.behind() > SETTLED:
            if time.monotonic() > end:
                self.relay.reset()
            time.sleep(SETTLED)

    def _delay(self, seconds: float) -> None:
        self.relay.delay(500)
        time.sleep(seconds)
        self.relay.delay(10)

    def _flap(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self._refuse(0.5)
            time.sleep(0.5)

    def _stop_server(self, seconds: float) -> None:
        with stopped(self._sshd.signal):
            time.sleep(seconds)

    def _restart_server(self, seconds: float) -> None:
        self._sshd.stop()
        time.sleep(seconds)
        self._sshd.start()

    def _sleep(self, seconds: float) -> None:
        with stopped(self._mount.signal):
            self.relay.reset()
            time.sleep(seconds)

    def _kill(self, _: float) -> None:
        with self._ledger.unmounted.during(0.5):
            self._mount.kill()
            self._mount.start()

    def _move(self, _: float) -> None:
        """The server is at another port from now on, and nothing at the old one."""
        old, self.relay = self.relay, Relay(self._sshd.port, rtt_ms=10)
        try:
            self._mount.move(self.relay.port)
        finally:
            old.close()

    # --- nothing is lost --------------------------------------------------------------------------------------------

    def _pause_server(self, _: float) -> None:
        with self._silent() as seconds:
            self._stop_server(seconds)

    def _pause_often(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._pause_server(0)
            time.sleep(self._chance.uniform(0.1, 1))

    def _hold_link(self, _: float) -> None:
        with self._silent() as seconds:
            self._black_hole(seconds)

    @contextlib.contextmanager
    def _silent(self) -> Iterator[float]:
        """A silence that is too short to lose a connection, and perhaps not to count as offline; its seconds."""
        seconds = self._chance.uniform(*PAUSE)
        lost = self._ledger.lost.during(ONLINE) if seconds > OFFLINE else contextlib.nullcontext()
        with self._ledger.silence.during(0), lost:
            yield seconds

    def _replace(self, _: float) -> None:
        self._life.replace(self._chance.randrange(LIVE))

    def _signal(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.programs is not None:
            self.programs.signal(self._chance.choice((*SIGNALS, signal.SIGSTOP)))
            time.sleep(SIGNAL_EVERY)

    def _flood(self, seconds: float) -> None:
        """Read a file that is larger than the memory for blocks."""
        program = subprocess.Popen(
            ["cat", str(self._mount.path / "big/flood")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()

    def _damage(self, _: float) -> None:
        for path in self._mount.cache.rglob("blocks/*/*/*"):
            if self._chance.random() < 0.2:
                _flip(path, self._chance)

    def _delete(self, _: float) -> None:
        for path in self._mount.cache.rglob("blocks/*/*/*"):
            if self._chance.random() < 0.5:
                path.unlink(missing_ok=True)


def _flip(path: Path, chance: random.Random) -> None:
    try:
        with open(path, "r+b") as file:
            file.seek(chance.randrange(max(1, path.stat().st_size)))
            file.write(chance.randbytes(10))
    except FileNotFoundError:  # evicted meanwhile
        return
