"""A program that looks at what is mounted and says what it saw, until it is killed.

`python -m tests.chaos.reader MOUNTPOINT ROOT SEED ROLE`; a line of JSON for each thing that it did. Its signals have
handlers without SA_RESTART, and every other program has a timer that goes off all the time.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import random
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.chaos.ledger import ABSENT, PRESENT, RIGHT, WRONG, Seen
from tests.lab import calls

SAMPLE = 300_000
"""Bytes of a read in the middle of a file."""
HEAD = 32
"""Bytes at the beginning of a file that changes, from which all of it follows: its version and its size."""
PERIOD = (1 << 20) + 7
ROLES = ("bytes", "names", "handles")
SIGNALS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGALRM)
GOES_ON = "null"
"""The line that tells that one of several calls has returned."""
TIMERS = (0.02, 0.1, 0.5)
"""Seconds between two alarms."""

Saw = str | int


def version(name: str, size: int) -> bytes:
    """What is in a file of this size, at least `HEAD`; each version of a file has a name of up to 20 characters."""
    head = f"{name:<20}{size:012d}".encode()
    return head + random.Random(head).randbytes(size - HEAD)


def version_of(data: bytes) -> str | None:
    """The name of the version that this is all of; None: it is none."""
    try:
        size = int(data[20:HEAD])
    except ValueError:
        return None
    name = data[:20].decode(errors="replace").rstrip()
    return name if len(data) == size and data == version(name, size) else None


def grown(name: str, offset: int, size: int) -> bytes:
    """What is there in the growing file of this name."""
    pattern, start = _pattern(name), offset % PERIOD
    return (pattern * (size // PERIOD + 2))[start : start + size]


@functools.cache
def _pattern(name: str) -> bytes:
    return random.Random(name).randbytes(PERIOD)


def pread_all(file: int, offset: int, size: int) -> bytes:
    """Bytes as the mount gives them, not those that the kernel has kept."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    parts = []
    while size > 0 and (part := calls.pread(file, min(size, 1 << 20), offset)):
        print(GOES_ON, flush=True)
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def read(path: Path, offset: int = 0, size: int = 1 << 30) -> bytes:
    """The same of a file that is opened for it."""
    file = calls.open_file(path)
    print(GOES_ON, flush=True)
    try:
        return pread_all(file, offset, size)
    finally:
        os.close(file)


def _is(true: bool) -> Saw:
    return RIGHT if true else WRONG


class Program:
    """One of a role, on `mount`, which shows `root`."""

    def __init__(self, mount: Path, root: Path, seed: int, role: str) -> None:
        self._mount, self._root, self._chance = mount, root, random.Random(seed)
        self._names = {
            name: sorted(os.listdir(root / name)) for name in ("still", "rare", "links", "grow", "live")
        }
        self._names["kinds"] = [str(number) for number in range(4)]
        self._held: dict[str, tuple[int, float]] = {}
        self._ends: dict[str, int] = {}
        self._deeds: list[tuple[str, Callable[[str], Saw], int]] = {
            "bytes": [
                ("still", self.list_still, 10),
                ("still", self.size, 10),
                ("live", self.whole_live, 20),
                ("still", self.whole, 20),
                ("still", self.part, 40),
            ],
            "names": [
                ("rare", self.list_rare, 20),
                ("rare", self.read_rare, 20),
                ("links", self.through_link, 10),
                ("kinds", self.look, 5),
                ("kinds", self.read_kind, 5),
                ("kinds", self.list_kind, 5),
                ("kinds", self.is_listed, 5),
            ],
            "handles": [
                ("grow", self.follow, 10),
                ("grow", self.length, 5),
                ("grow", self.part_of_growth, 10),
                ("grow", self.let_go, 1),
            ],
        }[role]
        self.pause = 0.0 if role == "bytes" else 0.01
        """Seconds between two deeds."""

    def act(self) -> Seen:
        """Do one thing."""
        directory, deed, _ = self._chance.choices(self._deeds, [weight for *_, weight in self._deeds])[0]
        path = f"{directory}/{self._chance.choice(self._names[directory])}"
        return self.do(deed, path)

    def do(self, deed: Callable[[str], Saw], path: str) -> Seen:
        """Do this thing."""
        began = time.monotonic()
        opened = self._held[path][1] if path in self._held else began
        saw: Saw = RIGHT
        number, self._note = 0, ""
        try:
            saw = deed(path)
        except OSError as error:
            number = error.errno or errno.EPROTO
            self._note = f"in {traceback.extract_tb(error.__traceback__)[-2].name}"
            if number != errno.EINTR and path in self._held:
                os.close(self._held.pop(path)[0])
        return Seen(deed.__name__, path, opened, began, time.monotonic(), saw, number, self._note)

    # --- files that stay, and such that are replaced ----------------------------------------------------------------

    def list_still(self, _: str) -> Saw:
        return _is(sorted(os.listdir(self._mount / "still")) == self._names["still"])

    def size(self, path: str) -> Saw:
        return _is(os.stat(self._mount / path).st_size == (self._root / path).stat().st_size)

    def whole(self, path: str) -> Saw:
        return self._same(read(self._mount / path), (self._root / path).read_bytes())

    def part(self, path: str) -> Saw:
        offset = self._chance.randrange((self._root / path).stat().st_size)
        data, want = (read(root / path, offset, SAMPLE) for root in (self._mount, self._root))
        return self._same(data, want, offset)

    def whole_live(self, path: str) -> Saw:
        return self._version(path)

    def _version(self, path: str) -> Saw:
        """The version of a file, as a state."""
        data = read(self._mount / path)
        name = version_of(data)
        if name is None:
            self._note = f"{len(data)} bytes, {data[:HEAD]!r}…{data[-8:]!r}"
        return WRONG if name is None else name

    def _same(self, data: bytes, want: bytes, offset: int = 0) -> Saw:
        """Whether these bytes from `offset` on are right; where they are not is noted."""
        if data != want:
            at = next((i for i, (a, b) in enumerate(zip(data, want, strict=False)) if a != b), len(data))
            rest = data[at:]
            zeros = len(rest) - len(rest.lstrip(b"\0"))
            self._note = f"{len(data)} bytes of {len(want)} from {offset}, wrong from {offset + at} on, {zeros} zeros there"
        return _is(data == want)

    # --- names ------------------------------------------------------------------------------------------------------

    def list_rare(self, path: str) -> Saw:
        numbers = [name[2:] for name in os.listdir(self._mount / path) if name.startswith("n-")]
        return numbers[0] if len(numbers) == 1 else WRONG

    def read_rare(self, path: str) -> Saw:
        return self._version(f"{path}/f")

    def through_link(self, path: str) -> Saw:
        return self._version(path)

    def look(self, path: str) -> Saw:
        mode = os.lstat(self._mount / path).st_mode
        return "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"

    def read_kind(self, path: str) -> Saw:
        saw = self._version(path)
        return saw if saw == WRONG else "link" if saw == "a" else "file"

    def list_kind(self, path: str) -> Saw:
        os.listdir(self._mount / path)
        return "directory"

    def is_listed(self, path: str) -> Saw:
        directory, _, name = path.partition("/")
        return PRESENT if name in os.listdir(self._mount / directory) else ABSENT

    # --- handles of files that only grow ----------------------------------------------------------------------------

    def _file(self, path: str) -> int:
        if path not in self._held:
            opened = time.monotonic()
            self._held[path] = calls.open_file(self._mount / path), opened
        return self._held[path][0]

    def follow(self, path: str) -> Saw:
        """Read on at what was the end; how long the file is."""
        offset = self._ends.get(path, 0)
        data = pread_all(self._file(path), offset, 1 << 30)
        if self._same(data, grown(path.partition("/")[2], offset, len(data)), offset) == WRONG:
            return WRONG
        self._ends[path] = offset + len(data)
        return self._ends[path]

    def length(self, path: str) -> Saw:
        return os.fstat(self._file(path)).st_size

    def part_of_growth(self, path: str) -> Saw:
        file = self._file(path)
        offset = self._chance.randrange((self._root / path).stat().st_size)
        data = pread_all(file, offset, SAMPLE)
        return self._same(data, grown(path.partition("/")[2], offset, len(data)), offset)

    def let_go(self, path: str) -> Saw:
        if path in self._held:
            os.close(self._held.pop(path)[0])
        return RIGHT


def catch_signals(timer: float) -> None:
    """Handlers that do nothing, and do not have calls begun again; an alarm every so many seconds, 0 for none."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, timer, timer)


def main(mount: Path, root: Path, seed: int, role: str) -> None:
    catch_signals(random.Random(seed).choice(TIMERS) if seed % 2 else 0.0)
    program = Program(mount, root, seed, role)
    while True:
        seen = program.act()
        if seen.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.ismount(mount):
            seen = dataclasses.replace(seen, errno=errno.ENOTCONN)  # between a killed mount and the next one
        print(json.dumps(dataclasses.astuple(seen)), flush=True)
        time.sleep(0.2 if seen.errno else program.pause)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
