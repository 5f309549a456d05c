"""Programs on a real mount of a real sshd's tree, as `tests.lab.machine` has them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

from tests.lab import calls
from tests.lab.history import History, Kind
from tests.lab.machine import Machine
from tests.lab.memory_tree import RealTree
from tests.lab.mounted import Mounted, settle
from tests.lab.programs import Later
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually
from vfs.base.memory import BLOCKS

T = TypeVar("T")

HANG = 35.0
"""Seconds: the mount's `--timeout`, and what a busy machine takes."""
LONGEST = 2.6
"""Seconds that the machine waits at most: by then what it wrote is settled."""


class OnAMount:
    """Programs on a directory of a mount that no other example uses."""

    ttl = 0.5
    slack = 1.0

    def __init__(self, mounted: Mounted, sshd: Sshd, name: str) -> None:
        self._mounted = mounted
        self._sshd = sshd
        self._place = os.fsencode(mounted.path / name)
        self._one_at_a_time = threading.Lock()
        self._opened: list[Opened] = []
        self.operations = 0
        """Of programs: looks, listings, opens and reads."""
        (mounted.root / name).mkdir()
        self.history = History(RealTree(), os.fsencode(mounted.root / name), self.now)
        assert eventually(lambda: os.path.isdir(self._place))

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, LONGEST))

    def during(self, later: Later, work: Callable[[], T]) -> T:
        """Do `work` while the changes are made by other threads; returns when all have been."""
        self.operations += 1
        timers = [threading.Timer(delay, self._make, [change]) for delay, change in later]
        for timer in timers:
            timer.start()
        try:
            began = time.monotonic()
            try:
                return work()
            finally:
                took = time.monotonic() - began
                assert took < HANG, f"hangs: took {took:.1f} s"
        finally:
            for timer in timers:
                timer.join()

    def _make(self, change: Callable[[], None]) -> None:
        with self._one_at_a_time:
            change()

    def at(self, path: bytes) -> bytes:
        return self._place + b"/" + path

    def look(self, path: bytes, later: Later) -> tuple[Kind, int]:
        found = self.during(later, lambda: os.lstat(self.at(path)))
        if stat.S_ISREG(found.st_mode):
            return Kind.FILE, found.st_size
        return (Kind.DIRECTORY if stat.S_ISDIR(found.st_mode) else Kind.SYMLINK), 0

    def names(self, path: bytes, later: Later) -> set[bytes]:
        return self.during(later, lambda: set(os.listdir(self.at(path))))

    def read(self, path: bytes, later: Later) -> bytes:
        def work() -> bytes:
            file = calls.open_file(self.at(path))
            try:
                return _read_on(file, 0)
            finally:
                os.close(file)

        return self.during(later, work)

    def target(self, path: bytes, later: Later) -> bytes:
        """What `readlink` says."""
        return self.during(later, lambda: os.readlink(self.at(path)))

    def open(self, path: bytes) -> Opened:
        file = calls.open_file(self.at(path))
        if stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            raise IsADirectoryError(errno.EISDIR, "a directory")
        self._opened.append(Opened(self, file))
        return self._opened[-1]

    def evict(self) -> None:
        """Read more than the mount keeps in memory."""
        name = "more-than-fits"
        if not (self._mounted.root / name).exists():
            with open(self._mounted.root / name, "wb") as made:
                made.truncate(BLOCKS * 5 // 4)
            settle(self._mounted.root / name)
        with contextlib.suppress(OSError), open(self._mounted.path / name, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(1 << 20):
                pass

    def go_offline(self) -> None:
        self._sshd.kill_sessions()

    def go_online(self) -> None:
        assert eventually(self._online, 20)

    def _online(self) -> bool:
        done = self._mounted.artisync("status", "--json", str(self._mounted.path))
        return bool(json.loads(done.stdout)["mounts"][0]["state"] == "online")

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self.go_online()


class Opened:
    """An open file."""

    def __init__(self, client: OnAMount, file: int) -> None:
        self._client = client
        self._file = file

    def read(self, offset: int, length: int, later: Later = ()) -> bytes:  # type: ignore[assignment]
        return self._client.during(later, lambda: calls.pread(self._file, length, offset))

    def read_on(self, offset: int) -> bytes:
        return self._client.during([], lambda: _read_on(self._file, offset))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _read_on(file: int, offset: int) -> bytes:
    """All from there to the end."""
    pieces = []
    while piece := calls.pread(file, 1 << 20, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def run_machine(
    begin: Callable[[], OnAMount],
    examples: int,
    steps: int,
    machine: type[Machine] = Machine,
    phases: Iterable[Phase] = tuple(Phase),
) -> None:
    """Run the state machine so many times, each on what `begin` gives. Raises AssertionError with the example."""

    class MountMachine(machine):  # type: ignore[misc, valid-type]
        @initialize(made=Machine.made)
        def start(self, made: Any) -> None:
            self.begin(begin(), made)

    run_state_machine_as_test(
        MountMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
