"""What goes wrong: each trouble begins, lasts for seconds and is over."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.mount import Mount
from tests.chaos.reader import HEAD, content
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

Action = Callable[[float], None]


class Trouble:
    """All that can happen to a server, a link, a mount and its cache. Actions take the seconds that they may last."""

    def __init__(self, sshd: Sshd, relay: Relay, mount: Mount, chance: random.Random) -> None:
        self._sshd, self._relay, self._mount, self._chance = sshd, relay, mount, chance

    def actions(self) -> dict[str, Action]:
        """By name. What damages the cache is for mounts that claim to notice it."""
        every: dict[str, Action] = {
            "connections reset": lambda _: self._relay.reset(),
            "sessions killed": lambda _: self._sshd.kill_sessions(),
            "black hole": self._black_hole,
            "refused": self._refuse,
            "slow link": self._slow,
            "long way": self._delay,
            "flapping": self._flap,
            "server stopped": self._stop_server,
            "server restarted": self._restart_server,
            "laptop asleep": self._sleep,
            "file replaced": self._replace,
        }
        if self._mount.checks_its_cache:
            every |= {
                "mount killed": self._kill,
                "cache damaged": self._damage,
                "cache deleted": self._delete,
            }
        return every

    def _black_hole(self, seconds: float) -> None:
        self._relay.blackhole()
        time.sleep(seconds)
        self._relay.blackhole(False)

    def _refuse(self, seconds: float) -> None:
        self._relay.refuse()
        self._relay.reset()
        time.sleep(seconds)
        self._relay.refuse(False)

    def _slow(self, seconds: float) -> None:
        self._relay.slow(0.5)
        time.sleep(seconds)
        self._relay.slow(0)

    def _delay(self, seconds: float) -> None:
        self._relay.delay(500)
        time.sleep(seconds)
        self._relay.delay(10)

    def _flap(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self._refuse(0.5)
            time.sleep(0.5)

    def _stop_server(self, seconds: float) -> None:
        self._sshd.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._sshd.signal(signal.SIGCONT)

    def _restart_server(self, seconds: float) -> None:
        self._sshd.stop()
        time.sleep(seconds)
        self._sshd.start()

    def _sleep(self, seconds: float) -> None:
        os.kill(self._mount.pid, signal.SIGSTOP)
        self._relay.reset()
        time.sleep(seconds)
        os.kill(self._mount.pid, signal.SIGCONT)

    def _replace(self, _: float) -> None:
        path = self._chance.choice(sorted((self._sshd.root / "live").iterdir()))
        replace(path, self._chance)

    def _kill(self, _: float) -> None:
        self._mount.kill()
        self._mount.start()

    def _damage(self, _: float) -> None:
        for path in self._mount.cache.rglob("blocks/*/*/*"):
            if self._chance.random() < 0.2:
                _flip(path, self._chance)

    def _delete(self, _: float) -> None:
        for path in self._mount.cache.rglob("blocks/*/*/*"):
            if self._chance.random() < 0.5:
                path.unlink(missing_ok=True)


def replace(path: Path, chance: random.Random) -> None:
    """Put a new version in the place of a file of `live`, as rsync does."""
    temporary = path.parent.parent / "temporary"
    temporary.write_bytes(content(chance.randbytes(HEAD), chance.randint(1000, 3 << 20)))
    temporary.rename(path)


def _flip(path: Path, chance: random.Random) -> None:
    try:
        with open(path, "r+b") as file:
            file.seek(chance.randrange(max(1, path.stat().st_size)))
            file.write(chance.randbytes(10))
    except FileNotFoundError:  # evicted meanwhile
        return
