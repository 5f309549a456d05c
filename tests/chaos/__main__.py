"""`python -m tests.chaos`: random trouble under readers that compare; exit 1 on a wrong byte, a hang or a leftover."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.bench.peers import PEERS, Server
from tests.chaos import reader
from tests.chaos.mount import TIMEOUT, Mount
from tests.chaos.trouble import Trouble, replace
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

HANG = TIMEOUT + 5.0
"""Seconds after which a reader that has not done one thing is counted as hanging, and is killed."""
READERS = 8
FILES = 80
SIZES = (5_000, 400_000, 4_000_000, 8_000_000)
"""More in all than a cache holds here."""
LIES = ("ENOENT", "EINVAL", "ENOTDIR")
"""Errors that say something of the file which is not so."""


class Readers:
    """Programs that read; one that hangs is killed and replaced."""

    def __init__(self, mount: Path, root: Path, seed: int) -> None:
        self._words = [sys.executable, reader.__file__, str(mount), str(root)]
        self._seed = seed
        self.results: Counter[str] = Counter()
        self.hangs = 0
        self.slowest = 0.0
        self._running: dict[subprocess.Popen[str], float] = {}
        for _ in range(READERS):
            self._start()

    def _start(self) -> None:
        self._seed += 1
        process = subprocess.Popen([*self._words, str(self._seed)], stdout=subprocess.PIPE, text=True)
        self._running[process] = time.monotonic()
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            result, seconds = json.loads(line)
            self.results[result] += 1
            self.slowest = max(self.slowest, seconds)
            self._running[process] = time.monotonic()

    def check(self, allowed: float = HANG) -> None:
        """Count and replace those that hang, and those that have died."""
        for process, last in list(self._running.items()):
            hangs = time.monotonic() - last > allowed
            if hangs or process.poll() is not None:
                self.hangs += hangs
                self.results["died"] += not hangs
                process.kill()
                del self._running[process]
                self._start()

    def end(self) -> None:
        """Kill all; who does not go within a second hangs where nothing can reach it."""
        for process in self._running:
            process.kill()
        for process in self._running:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                self.hangs += 1


def run(peer: str, minutes: float, seed: int) -> dict[str, object]:
    """The figures."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        root = place / "artifacts"
        for name in ("still", "live"):
            (root / name).mkdir(parents=True)
        for number in range(24):
            (root / f"still/{number}").write_bytes(
                chance.randbytes(chance.choice([5_000, 400_000, 4_000_000]))
            )
        for number in range(4):
            replace(root / f"live/{number}", chance)
        with Sshd(root) as sshd, Relay(sshd.port, rtt_ms=10) as relay:
            mount = Mount(PEERS[peer], Server(relay.port, sshd.user, sshd.user_key, root), place)
            mount.start()
            actions = Trouble(sshd, relay, mount, chance).actions()
            readers = Readers(mount.path, root, seed)
            done: Counter[str] = Counter()
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                name = chance.choice(sorted(actions))
                print(f"{name} …", file=sys.stderr, flush=True)
                seconds = chance.uniform(0.5, 6)
                actions[name](seconds)
                done[name] += 1
                # A program that was stopped itself is not to blame for those seconds.
                readers.check(HANG + seconds * (name == "laptop asleep"))
                time.sleep(chance.uniform(0.2, 4))
                readers.check()
            readers.end()
            left = mount.end()
    return {
        "program": peer,
        "minutes": minutes,
        "troubles": sum(done.values()),
        "reads": sum(readers.results.values()),
        "right": readers.results["right"],
        "wrong": readers.results["wrong"],
        "said not to be there": sum(readers.results[lie] for lie in LIES),
        "failed": {name: count for name, count in sorted(readers.results.items()) if name.startswith("E")},
        "hangs": readers.hangs,
        "slowest": round(readers.slowest, 1),
        "left behind": left,
        "by trouble": dict(sorted(done.items())),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument(
        "--program", choices=[name for name, peer in PEERS.items() if peer.mount], default="artisync-paramiko"
    )
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr)
    figures = run(chosen.program, chosen.minutes, chosen.seed)
    print(json.dumps(figures))
    return int(any(figures[name] for name in ("wrong", "said not to be there", "hangs", "left behind")))


if __name__ == "__main__":
    sys.exit(main())
