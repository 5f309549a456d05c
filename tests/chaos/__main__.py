"""`python -m tests.chaos`: random trouble under readers that compare; a table, and exit 1 on a fault of any kind."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.bench.peers import PEERS, Server
from tests.chaos.ledger import FAULTS, RIGHT, Ledger, Seen
from tests.chaos.life import LIVE, Life
from tests.chaos.mount import TIMEOUT, Mount
from tests.chaos.reader import GOES_ON, ROLES
from tests.chaos.trouble import Trouble
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd

HANG = TIMEOUT + 5.0
"""Seconds that one call of a reader may take. A reader that takes longer hangs, and is killed."""
READERS = 9
TOLD = 5
"""Faults of one kind that are told in full."""
STOPPED = 0.2
"""Seconds that a reader is stopped for by a signal."""
ROOT = Path(__file__).parents[2]


def _doing(process: subprocess.Popen[str]) -> str:
    """What a program waits for, as the kernel tells: its system call, and the files that it has open."""
    if process.poll() is not None:
        return f"ended with {process.returncode}"
    place = Path(f"/proc/{process.pid}")
    try:
        files = [f"{one.name}={os.readlink(one)}" for one in (place / "fd").iterdir() if int(one.name) > 2]
        return f"in {(place / 'wchan').read_text()} ({(place / 'syscall').read_text().split()[:3]}, {files})"
    except OSError as error:
        return str(error)


class Readers:
    """Programs that read; one that hangs is killed and replaced. The words of one end in its seed and its role."""

    def __init__(self, words: list[str], ledger: Ledger, chance: random.Random, count: int = READERS) -> None:
        self._words, self._ledger, self._chance = words, ledger, random.Random(chance.random())
        self.results: Counter[str] = Counter()
        self.told: dict[str, list[str]] = defaultdict(list)
        self.slowest = 0.0
        self._running: dict[subprocess.Popen[str], tuple[str, float]] = {}
        self._heard: set[subprocess.Popen[str]] = set()
        """Those that have said something: from then on signals do not end them."""
        for number in range(count):
            self._start(ROLES[number % len(ROLES)])

    def _start(self, role: str) -> None:
        words = [*self._words, str(self._chance.randrange(1 << 30)), role]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._running[process] = role, time.monotonic()
        threading.Thread(target=self._follow, args=(process, role), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str], role: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if process in self._running:
                self._running[process] = role, time.monotonic()
                self._heard.add(process)
            if line.strip() == GOES_ON:
                continue
            seen = Seen(*json.loads(line))
            verdict = self._ledger.verdict(seen)
            self.results[verdict] += 1
            if verdict in FAULTS and len(self.told[verdict]) < TOLD:
                self.told[verdict].append(self._ledger.explain(seen))
                print(f"{verdict}: {self.told[verdict][-1]}", file=sys.stderr, flush=True)
            self.slowest = max(self.slowest, seen.until - seen.since)

    def signal(self, number: int) -> None:
        """Send it to any one of them; SIGSTOP is followed by SIGCONT."""
        ready = [process for process in self._running if process in self._heard]
        if not ready:
            return
        process = self._chance.choice(ready)
        process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(self._chance.uniform(0, STOPPED))
            process.send_signal(signal.SIGCONT)

    def check(self, allowed: float = HANG) -> None:
        """Count and replace those that hang, and those that have died."""
        for process, (role, last) in list(self._running.items()):
            hangs = time.monotonic() - last > allowed
            if hangs or process.poll() is not None:
                self.results["hangs" if hangs else "died"] += 1
                print(
                    f"{role} {_doing(process)}, last heard {time.monotonic() - last:.1f} s ago",
                    file=sys.stderr,
                )
                process.kill()
                del self._running[process]
                self._start(role)

    def end(self) -> None:
        """Kill all; who does not go within a second hangs where nothing can reach it."""
        for process in self._running:
            process.kill()
        for process in self._running:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                self.results["hangs"] += 1


def run(peer: str, minutes: float, seed: int, only: list[str]) -> dict[str, Any]:
    """The figures. `only`: the troubles that may happen, if not all."""
    chance = random.Random(seed)
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        root = place / "artifacts"
        root.mkdir()
        with Life(root, ledger, chance) as life, Sshd(root) as sshd:
            relay = Relay(sshd.port, rtt_ms=10)
            mount = Mount(PEERS[peer], Server(relay.port, sshd.user, sshd.user_key, root), place)
            mount.start()
            trouble = Trouble(sshd, relay, mount, life, ledger, chance)
            actions = {name: act for name, act in trouble.actions().items() if not only or name in only}
            words = [sys.executable, "-m", "tests.chaos.reader", str(mount.path), str(root)]
            readers = trouble.programs = Readers(words, ledger, chance)
            done: Counter[str] = Counter()
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                name = chance.choice(sorted(actions))
                print(f"{name} …", file=sys.stderr, flush=True)
                seconds = chance.uniform(0.5, 6)
                actions[name](seconds)
                done[name] += 1
                # A program that was stopped itself is not to blame for those seconds.
                allowed = HANG + seconds * (name == "laptop asleep")
                readers.check(allowed)
                life.replace(chance.randrange(LIVE))
                time.sleep(chance.uniform(0.2, 4))
                readers.check(allowed)
            readers.end()
            left = mount.end()
            trouble.relay.close()
    results = readers.results
    return {
        "program": peer,
        "minutes": minutes,
        "troubles": sum(done.values()),
        "reads": sum(results.values()),
        RIGHT: results[RIGHT],
        **{name: results[name] for name in (*FAULTS, "hangs", "died")},
        "failed": {
            name: count for name, count in sorted(results.items()) if name.isupper() and name not in FAULTS
        },
        "slowest": round(readers.slowest, 1),
        "left behind": left,
        "by trouble": dict(sorted(done.items())),
    }


def faults(figures: dict[str, Any]) -> list[str]:
    """The kinds of which there are any."""
    return [name for name in (*FAULTS, "hangs", "died", "left behind") if figures[name]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument(
        "--only", action="append", default=[], metavar="TROUBLE", help="only this one; repeatable"
    )
    parser.add_argument(
        "--program", choices=[name for name, peer in PEERS.items() if peer.mount], default="artisync-paramiko"
    )
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr)
    figures = run(chosen.program, chosen.minutes, chosen.seed, chosen.only)
    print(json.dumps(figures))
    for name in (RIGHT, *FAULTS, "hangs", "died", "slowest"):
        print(f"{name:>26}  {figures[name]}")
    print(f"{'left behind':>26}  {', '.join(figures['left behind']) or 0}")
    return int(bool(faults(figures)))


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.exit(main())
