"""A leak hunt: many opens, listings, reconnects and mounts; what is held must level off, and nothing be left behind.

Run by `scripts/soak --leaks`; a short one is a test.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen

from tests.lab import calls
from tests.lab.usage import Growth, Usage, growth, table, usage
from tests.lab.waiting import eventually
from tests.lab.world import World, read

SAMPLES = 60
FILES, PER_DIRECTORY = 500, 50
LISTED, NAMES = 20, 100
ENOUGH = 30.0
"""Seconds in which a mount is connected again, or gone."""
PATIENCE = 5.0
"""Seconds for what a mount started to be gone after it."""
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each thing is done; 0: not at all."""

    opens: int = 100_000
    listings: int = 10_000
    reconnects: int = 200
    mounts: int = 100
    in_process: int = 60
    """Times that a program opens its stacks through fsspec and closes them."""


@dataclass(slots=True)
class Report:
    """What was found; `failures` are sentences."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, title: str, found: list[Growth]) -> None:
        self.lines.append(table(title, found))
        self.failures += [
            f"{title}: {one.name} grow by {one.grown:.0f}" for one in found if not one.levels_off
        ]


def series(pid: int, count: int, work: Callable[[int], None]) -> list[Usage]:
    """Do the work so often, nine times at least, with its number each time; samples of the process in between."""
    samples = min(SAMPLES, count)
    found = []
    for sample in range(1, samples + 1):
        for number in range((sample - 1) * count // samples, sample * count // samples):
            work(number)
        found.append(usage(pid, sample * count // samples))
    return found


def hunt(place: Path, transport: str, counts: Counts, report: Report) -> None:
    """Everything over one transport, below an empty directory."""
    (place / "tmp").mkdir()
    world = World(place, "--ttl", "500ms", transport=transport, timeout=20)
    for number in range(FILES):
        world.file(f"opens/{number // PER_DIRECTORY}/{number}", 5_000)
    for number in range(LISTED * NAMES):
        world.file(f"lists/{number // NAMES}/{number}", 10)
    with world:
        # The mount of this block is ended first: the mounts that are measured have a TMPDIR of their own.
        world.mounted.unmount()
        world.mounted.environment["TMPDIR"] = str(place / "tmp")
        world.mounted.mount()
        for title, count, work in (
            ("opens", counts.opens, opens(world)),
            ("listings", counts.listings, listings(world)),
            ("reconnects", counts.reconnects, reconnects(world)),
        ):
            if count:
                report.add(f"{count} {title} ({transport})", growth(series(world.pid, count, work)))
        if counts.mounts:
            world.mounted.unmount()
            report.failures += [
                f"mounts ({transport}): {left}" for left in mounts(world, place, counts.mounts)
            ]
            report.lines.append(f"{counts.mounts} mounts ({transport})")
        if counts.in_process:
            title = f"{counts.in_process} stacks of fsspec ({transport})"
            report.add(title, growth(in_process(world, transport, counts.in_process)))


def opens(world: World) -> Callable[[int], None]:
    """Open, read, close; the bytes are here after the first round."""

    def work(number: int) -> None:
        number %= FILES
        file = calls.open_file(world.path / f"opens/{number // PER_DIRECTORY}/{number}")
        try:
            assert calls.pread(file, 4096, 0)
        finally:
            os.close(file)

    return work


def listings(world: World) -> Callable[[int], None]:
    """List a directory, and look at each name."""

    def work(number: int) -> None:
        with os.scandir(world.path / f"lists/{number % LISTED}") as entries:
            assert sum(entry.stat().st_size == 10 for entry in entries) == NAMES

    return work


def reconnects(world: World) -> Callable[[int], None]:
    """Lose all connections, in one of two ways, and read what was appended to a file meanwhile."""
    log = world.root / "reconnects.log"
    log.touch()

    def work(number: int) -> None:
        before = world.relay.connections()
        if number % 2:
            world.sshd.kill_sessions()
        else:
            world.relay.reset()
        with log.open("ab") as file:
            file.write(b"0123456789")
        assert eventually(lambda: _shows(world.path / log.name, log.stat().st_size), ENOUGH), "no tail"
        assert world.relay.connections() > before

    return work


def _shows(path: Path, size: int) -> bool:
    """Whether a file is as long as that and can be read."""
    try:
        return len(read(path)) == size
    except OSError:
        return False


# --- mounts -------------------------------------------------------------------------------------------------------


def mounts(world: World, place: Path, count: int) -> list[str]:
    """Mount, look, unmount, so often; what is left behind or grows, in words."""
    holds = []
    for number in range(count):
        world.mounted.mount()
        assert os.listdir(world.path / "lists/0")
        assert read(world.path / "opens/0/0")
        world.mounted.unmount()
        if left := left_behind(place, number):
            return left
        holds.append(rows(world.mounted.cache))
    settled = holds[min(1, count - 1)]
    return [f"the cache grows: {settled}, after {count} mounts {holds[-1]}"] if holds[-1] != settled else []


def left_behind(place: Path, number: int = 0) -> list[str]:
    """What a mount that has ended has not taken along: processes, sockets, records, temporary files."""
    end = time.monotonic() + PATIENCE
    while processes := processes_of(place):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    left = [f"process {pid}" for pid in processes]
    left += [f"temporary {path.name}" for path in (place / "tmp").iterdir()]
    left += [str(path.relative_to(place)) for kind in ("sock", "json") for path in place.rglob(f"*.{kind}")]
    if os.path.ismount(place / "mnt"):
        left.append("the mount")
    return [f"after mount {number}: {one}" for one in left]


def processes_of(place: Path) -> list[int]:
    """Those whose environment names the directory, this one aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.fsencode(f"={place}\0") in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def rows(cache: Path) -> dict[str, int]:
    """What is in a cache that no process has open: the rows of each table, and its files."""
    found = {"files": sum(path.is_file() for path in cache.rglob("*"))}
    for path in cache.rglob("cache.db"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            names = [
                name for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            ]
            for name in names:
                found[name] = database.execute(f'select count(*) from "{name}"').fetchone()[0]
        database.close()
    return found


# --- in a program's own process -----------------------------------------------------------------------------------

_PROGRAM = """
import json, sys
import fsspec
from vfs.frontends.fsspec import stacks
fsspec.register_implementation("artisync", "vfs.frontends.fsspec.filesystem.ArtisyncFileSystem", clobber=True)
options, root = json.loads(sys.argv[1]), sys.argv[2]
for line in sys.stdin:
    fs = fsspec.filesystem("artisync", skip_instance_cache=True, **options)
    for number in range(10):
        assert len(fs.cat_file(f"/opens/0/{number}")) == 5000
    assert len(fs.ls("/lists/0", detail=False)) == 100
    stacks.close()
    print(flush=True)
"""


def in_process(world: World, transport: str, count: int) -> list[Usage]:
    """A program that reads through fsspec, and closes its stacks each time."""
    options = {
        "ssh": world.mounted.address.line(),
        "remote_root": str(world.root),
        "cache_dir": str(world.mounted.cache),
        "transport": transport,
        "accept_new_host_key": True,
    }
    words = [sys.executable, "-c", _PROGRAM, json.dumps(options), str(world.root)]
    with Popen(words, stdin=PIPE, stdout=PIPE, env=world.mounted.environment, cwd=ROOT, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def work(_: int) -> None:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline()

        found = series(program.pid, count, work)
        program.stdin.close()
    return found


def main(counts: Counts) -> int:
    """The whole hunt, over both transports; 1 when something grows or is left behind."""
    report = Report()
    for transport in ("paramiko", "openssh"):
        shown = len(report.lines)
        with tempfile.TemporaryDirectory(prefix="artisync-leaks-") as directory:
            hunt(Path(directory), transport, counts, report)
        print("\n".join(report.lines[shown:]), flush=True)
    print("\n".join(report.failures) or "everything levels off")
    return 1 if report.failures else 0
