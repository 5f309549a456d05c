"""What is on the server, and how it goes on changing: files that are replaced, that grow, links, names of other kinds."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from tests.chaos.ledger import ABSENT, Ledger
from tests.chaos.reader import grown, version

FILES = 80
SIZES = (5_000, 400_000, 4_000_000, 8_000_000)
"""Of those that stay: more in all than a cache holds here."""
FLOOD = 80 << 20
"""Bytes of a file that puts all others out of memory."""
RARE = 600
"""Directories that change and are looked at seldom, so that what is known of one may be old."""
LIVE, KINDS, LINKS = 4, 4, 4
GROWING = ("0.bin", "1.log", "events.out.tfevents.2")
INSIDE, OUTSIDE = ("a", "b", "c"), ("d", "e")
"""What links lead to, within what is mounted and beside it."""
EVERY = 0.1
"""Seconds between changes."""


class Life:
    """`with Life(root, ledger, chance)`: makes the tree, and changes it until the end of the block, on a thread."""

    def __init__(self, root: Path, ledger: Ledger, chance: random.Random) -> None:
        self.root, self._ledger, self._chance = root, ledger, random.Random(chance.random())
        self._outside = root.parent / "outside"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self._numbers = iter(range(1, 1 << 60))

    def __enter__(self) -> Life:
        self._make()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _make(self) -> None:
        root, chance = self.root, self._chance
        for name in ("still", "live", "grow", "kinds", "links", "targets", "rare", "big"):
            (root / name).mkdir(parents=True)
        self._outside.mkdir()
        for number in range(FILES):
            (root / f"still/{number}").write_bytes(chance.randbytes(chance.choice(SIZES)))
        (root / "big/flood").write_bytes(bytes(FLOOD))
        for name in (*INSIDE, *OUTSIDE):
            directory = root / "targets" if name in INSIDE else self._outside
            (directory / name).write_bytes(version(name, 20_000))
        for number in range(LIVE):
            self._ledger.have(f"live/{number}", "")
            self.replace(number)
        for name in GROWING:
            self._ledger.have(f"grow/{name}", 20_000)
            (root / "grow" / name).write_bytes(grown(name, 0, 20_000))
        for number in range(KINDS):
            self._ledger.have(f"kinds/{number}", ABSENT)
        for number in range(LINKS):
            self._ledger.have(f"links/{number}", "a")
            (root / f"links/{number}").symlink_to("../targets/a")
        for number in range(RARE):
            path = root / f"rare/{number}"
            path.mkdir()
            (path / "n-0").touch()
            (path / "f").write_bytes(version("0", 500))
            self._ledger.have(f"rare/{number}", "0")

    def _go_on(self) -> None:
        works: list[tuple[Callable[[], None], int]] = [
            (self._rare, 10),
            (self._grow, 5),
            (self._change_kind, 2),
            (self._move_link, 2),
        ]
        while not self._over.wait(EVERY):
            self._chance.choices(*zip(*works, strict=True))[0]()

    def replace(self, number: int) -> None:
        """Put a new version in the place of a file of `live`, as rsync does."""
        name = str(next(self._numbers))
        with self._ledger.change(f"live/{number}", name):
            self._put(self.root / f"live/{number}", version(name, self._chance.randint(1000, 3 << 20)))

    def _rare(self) -> None:
        path = f"rare/{self._chance.randrange(RARE)}"
        old = int(self._ledger.now(path))
        with self._ledger.change(path, str(old + 1)):
            self._put(self.root / path / "f", version(str(old + 1), 500 + (old + 1) * 7 % 1500))
            (self.root / path / f"n-{old}").rename(self.root / path / f"n-{old + 1}")

    def _grow(self) -> None:
        name = self._chance.choice(GROWING)
        path = self.root / "grow" / name
        old = path.stat().st_size
        more = self._chance.randint(1, 20_000)
        with self._ledger.change(f"grow/{name}", old + more), path.open("ab", buffering=0) as file:
            file.write(grown(name, old, more))

    def _change_kind(self) -> None:
        path = f"kinds/{self._chance.randrange(KINDS)}"
        place = self.root / path
        kinds = {"file", "directory", "link", ABSENT} - {str(self._ledger.now(path))}
        kind = self._chance.choice(sorted(kinds))
        if self._ledger.now(path) != ABSENT:
            with self._ledger.change(path, ABSENT):
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink()
        if kind == ABSENT:
            return
        with self._ledger.change(path, kind):
            if kind == "file":
                self._put(place, version(str(next(self._numbers)), self._chance.randint(100, 10_000)))
            elif kind == "directory":
                place.mkdir()
                (place / "in").touch()
            else:
                place.symlink_to("../targets/a")

    def _move_link(self) -> None:
        path = f"links/{self._chance.randrange(LINKS)}"
        name = self._chance.choice((*INSIDE, *OUTSIDE, ABSENT))
        target = str(self._outside / name) if name in OUTSIDE else f"../targets/{name}"
        temporary = self.root / "temporary-link"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(target)
        with self._ledger.change(path, name):
            temporary.rename(self.root / path)

    def _put(self, path: Path, data: bytes) -> None:
        temporary = self.root / f"temporary-{threading.get_ident()}"
        temporary.write_bytes(data)
        temporary.rename(path)
