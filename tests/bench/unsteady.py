"""The case of a changing link: its rate falls and rises, its round trip jitters, and it stalls now and then.

Beside a large read, somebody reads pages of another file, and a small one that is replaced on the server again and again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

from tests.bench import content
from tests.bench.case import Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import big_file
from tests.bench.results import Figure
from tests.bench.scale import Scale
from tests.lab.relay import Relay

RATES = 100, 5
"""Mbit/s, in turn."""
TURN = 10.0
"""Seconds for each of them."""
TURNS = 4
RTT, JITTER = 60, 30
"""Milliseconds; the round trip is another one, within the jitter, every `CHANGES` seconds."""
CHANGES = 0.05
EVERY, STALL = 7.0, 0.3
"""Seconds between two stalls, and how long they last."""
REPLACED = 3.7
"""Seconds between two versions of the small file."""
PAGES = 0.25
"""Seconds between two pages, and between two looks at the small file."""
AFTER = 3.0
"""Seconds after the rate fell in which the bytes that were on their way then are in front of everybody."""
FIRST = 4.0
"""Seconds after which the large read is at its full speed."""
SIZE, PAGE = 64 << 20, 4 << 10
"""Bytes of the file whose pages are read, and of one page."""
MBIT = 125_000


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    figures = {
        "share": Figure("of what the link could carry", "share"),
        "fast": Figure("worst page at 100 Mbit/s", "s"),
        "fallen": Figure("in the 3 s after the fall", "s"),
        "slow": Figure("later at 5 Mbit/s", "s"),
        "old": Figure("an old file was read after its change", "s"),
        "offline": Figure("said to be offline", "times"),
    }
    return [Case("unsteady", "100 and 5 Mbit/s in turn, RTT 60 ± 30 ms, stalls of 0.3 s", figures, _unsteady)]


def _unsteady(lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.random_size)
    pages = lab.made("exp-pages/data.bin", lambda path: content.random_file(path, SIZE))
    small = lab.made("exp-note/note", lambda path: content.random_file(path, 100))
    with lab.fresh() as place, lab.relay(RTT, RATES[0]) as relay:
        with lab.view(peer, lab.server(relay.port), place) as view:

            def shown(path: Path) -> Path:
                return view.path / path.relative_to(lab.root)

            reader = lab.start("drain", shown(original), FIRST + TURN * TURNS + 2)
            try:
                time.sleep(FIRST)
                link = _Link(relay)
                before = relay.bytes_down()
                waits, old = _beside(link, shown(pages), small, shown(small))
                carried = relay.bytes_down() - before
            finally:
                lab.result(reader)
        log = (place / "mount.log").read_text(errors="replace")
    by_turn: dict[str, list[float]] = {"fast": [], "fallen": [], "slow": []}
    for at, seconds in waits:
        turn, since = divmod(at, TURN)
        fallen = "fallen" if since < AFTER else "slow"
        by_turn[fallen if turn % 2 else "fast"].append(seconds)
    worst = {name: max(seconds, default=0.0) for name, seconds in by_turn.items()}
    return {"share": carried / link.could, **worst, "old": old, "offline": log.count("offline:")}


class _Link:
    """Does to a relay what such a link does; `could` is what it could have carried."""

    def __init__(self, relay: Relay) -> None:
        self.could = 0.0
        self.began = time.monotonic()
        self._relay = relay

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    def play(self) -> None:
        """Until the last turn is over."""
        mbit, stalls, random_ = RATES[0], 1, random.Random(1)
        last = self.age
        while (age := self.age) < TURN * TURNS:
            self.could += (age - last) * mbit * MBIT
            last = age
            if mbit != (now := RATES[int(age // TURN) % 2]):
                mbit = now
                self._relay.slow(mbit)
            if age > stalls * EVERY:
                stalls += 1
                self._relay.blackhole()
                time.sleep(STALL)
                self._relay.blackhole(False)
                last = self.age
            self._relay.delay(RTT + random_.uniform(-JITTER, JITTER))
            time.sleep(CHANGES)


def _beside(link: _Link, pages: Path, small: Path, shown: Path) -> tuple[list[tuple[float, float]], float]:
    """When pages were read and how long each took, and the seconds after which an old version was read at the latest."""
    waits: list[tuple[float, float]] = []
    changes: list[float] = []
    old = 0.0

    def page() -> None:
        with open(pages, "rb", buffering=0) as file:
            places = random.Random(2)
            while (asked := link.age) < TURN * TURNS:
                os.pread(file.fileno(), PAGE, places.randrange(SIZE // PAGE) * PAGE)
                waits.append((asked, link.age - asked))
                time.sleep(PAGES)

    def replaced() -> None:
        fresh = small.with_name("fresh")
        fresh.write_text(f"{len(changes)} " + "x" * len(changes))
        fresh.replace(small)
        changes.append(link.age)

    def replace() -> None:
        while link.age < TURN * TURNS:
            time.sleep(REPLACED)
            replaced()

    def look() -> None:
        nonlocal old
        while (asked := link.age) < TURN * TURNS:
            found = int(shown.read_text().split()[0])
            newer = [at for at in changes[found + 1 :] if at <= asked]
            if newer:
                old = max(old, asked - newer[0])
            time.sleep(PAGES)

    replaced()
    threads = [threading.Thread(target=one) for one in (link.play, page, replace, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits, old
