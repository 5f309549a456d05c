"""The cache when its disk fails it: no wrong byte, no exception, one warning for each cause.

The trouble is real: killed and stopped processes, a full and a read-only file system, broken files. What
needs root (a small tmpfs) is skipped without it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.blocks import ledger_of, prune, read_block, usage, verify
from tests.lab.processes import Program
from vfs.base.errors import CacheUnusable
from vfs.cache.block import BLOCK, Block
from vfs.cache.disk import DiskCache
from vfs.cache.records import lineage_pin
from vfs.cache.upkeep import looked_after

LINEAGE = b"\x05" * 16
LIMIT = 1 << 30
COUNT = 12
needs_root = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a tmpfs")
Open = Callable[..., DiskCache]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache_at(directory: Path) -> Iterator[Open]:
    opened: list[DiskCache] = []

    def open_it(where: Path = directory) -> DiskCache:
        opened.append(DiskCache.open(where, LIMIT))
        return opened[-1]

    yield open_it
    for cache in opened:
        cache.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def content(index: int, size: int = 50_000) -> bytes:
    return random.Random(index).randbytes(size)


def lineage(index: int) -> bytes:
    """Each block is of a file of its own, from 1000 on they are all of one."""
    return LINEAGE if index >= 1000 else bytes([5]) * 14 + index.to_bytes(2, "big")


def put(cache: DiskCache, *indexes: int, size: int = 50_000) -> None:
    for index in indexes:
        block = Block(size)
        block.write(0, content(index, size))
        cache.write(lineage(index), index, block)
    assert cache.flush(20)


def kept(cache: DiskCache, *indexes: int) -> list[int]:
    """The blocks that the cache says it has."""
    return [index for index in indexes if index in cache.index(lineage(index))]


def right(cache: DiskCache, *indexes: int, size: int = 50_000) -> list[int]:
    """The blocks that are there; what is there must be right."""
    found = []
    for index in indexes:
        block = read_block(cache, lineage(index), index)
        if block is not None:
            assert block.whole
            assert bytes(block.view(0, size)) == content(index, size)
            found.append(index)
    return found


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("blocks/*/*/*"))


def fill(path: Path) -> None:
    """Write a file until the file system is full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(fd, bytes(4096))
    finally:
        os.close(fd)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# --- data files ---------------------------------------------------------------------------------------------


def damage(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(-at, os.SEEK_END)
        file.write(data)


BREAK: dict[str, Callable[[Path], object]] = {
    "truncated to nothing": lambda path: os.truncate(path, 0),
    "cut at its end": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut in its data": lambda path: os.truncate(path, path.stat().st_size - 30_000),
    "all zeros, as after a power cut": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a page zeroed, as after a power cut": lambda path: damage(path, 20_000, bytes(4096)),
    "a flipped bit": lambda path: damage(path, 50_000, bytes([content(int(path.name[-4:], 16))[0] ^ 4])),
    "deleted": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_broken_block_file_is_a_miss_and_is_written_anew(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    cache = cache_at()
    put(cache, *range(COUNT))
    broken = files(directory)[::3]
    for path in broken:
        BREAK[how](path)
    found = right(cache, *range(COUNT))
    assert len(found) == COUNT - len(broken)
    assert len(warnings(caplog)) == 1
    assert cache.flush(10)
    assert kept(cache, *range(COUNT)) == found
    for path in broken:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
    put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))
    cache.close()
    assert right(cache_at(), *range(COUNT)) == list(range(COUNT))


def test_a_longer_data_file_does_no_harm(cache_at: Open, directory: Path) -> None:
    cache = cache_at()
    put(cache, *range(COUNT))
    for path in files(directory):
        os.truncate(path, path.stat().st_size + 4096)
    assert right(cache, *range(COUNT)) == list(range(COUNT))


# --- the directory ------------------------------------------------------------------------------------------


def test_a_deleted_directory_is_made_anew_with_one_warning(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at()
    cache.set_record(lineage_pin(LINEAGE), b"")
    put(cache, *range(COUNT))
    shutil.rmtree(directory)
    assert right(cache, *range(COUNT)) == []
    put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))
    assert len([text for text in warnings(caplog) if "vanished" in text]) == 1
    cache.close()
    again = cache_at()
    assert right(again, *range(COUNT)) == list(range(COUNT))
    assert again.get_record(lineage_pin(LINEAGE)) is not None


def test_a_directory_that_is_deleted_again_and_again_is_made_anew_once_a_minute(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at()
    for _ in range(5):
        put(cache, 0)
        shutil.rmtree(directory, ignore_errors=True)
    put(cache, 0)
    assert not directory.exists()
    assert cache.problem == "its directory is not there"
    cache.set_record("f:x", b"kept in memory")
    assert cache.get_record("f:x") == b"kept in memory"
    assert right(cache, 0) == []
    assert len([text for text in warnings(caplog) if "vanished" in text]) == 1


def test_only_the_files_deleted_and_the_database_left_is_got_over(cache_at: Open, directory: Path) -> None:
    cache = cache_at()
    put(cache, *range(COUNT))
    shutil.rmtree(directory / "blocks")
    assert right(cache, *range(COUNT)) == []
    put(cache, *range(COUNT))
    put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))


def test_a_directory_replaced_by_another_cache_is_noticed(
    cache_at: Open, directory: Path, tmp_path: Path
) -> None:
    other = cache_at(tmp_path / "other")
    put(other, *range(COUNT))
    other.close()
    cache = cache_at()
    put(cache, 100)
    directory.rename(tmp_path / "old")
    (tmp_path / "other").rename(directory)
    put(cache, 101)
    assert right(cache, *range(COUNT), 101) == [*range(COUNT), 101]


@needs_root
def test_a_full_disk_stops_writing_but_not_reading(
    cache_at: Open, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at(small / "cache")
    for index in (0, 1):
        cache.set_record(lineage_pin(lineage(index)), b"")
    put(cache, 0, 1, size=BLOCK)
    (small / "other").write_bytes(bytes(1 << 20))
    put(cache, *range(2, 8), size=BLOCK)
    cache.set_record("f:x", b"1")
    assert right(cache, *range(8), size=BLOCK)[:2] == [0, 1]
    assert cache.get_record("f:x") == b"1"
    assert len(warnings(caplog)) == 1
    assert "no space" in warnings(caplog)[0]
    cache.close()
    again = cache_at(small / "cache")
    assert right(again, 0, 1, size=BLOCK) == [0, 1]
    assert all(verdict.error is None for verdict in verify(again))


@needs_root
def test_a_disk_that_was_full_is_written_again_when_there_is_room(
    cache_at: Open, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.cache.disk.PAUSE_SECONDS", 0.1)
    cache = cache_at(small / "cache")
    blocker = small / "other"
    fill(blocker)
    put(cache, 0, 1)
    cache.set_record("f:x", b"1")
    assert right(cache, 0, 1) == []
    blocker.unlink()
    time.sleep(0.2)  # the pause itself
    put(cache, 2)
    assert cache.flush(10)
    cache.close()
    again = cache_at(small / "cache")
    assert right(again, 2) == [2]
    assert again.get_record("f:x") == b"1"


@needs_root
def test_a_disk_that_is_full_from_the_start_is_no_reason_not_to_go_on(
    cache_at: Open, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(small / "other")
    cache = cache_at(small)
    put(cache, 0)
    assert right(cache, 0) == []
    cache.set_record("f:x", b"1")
    assert cache.get_record("f:x") == b"1"
    assert len(warnings(caplog)) == 1


@needs_root
def test_a_file_system_that_turns_read_only_is_still_read(
    cache_at: Open, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at(small / "cache")
    put(cache, *range(4))
    # What is open for writing forbids the change; a bind mount over it can be read-only by itself.
    subprocess.run(["mount", "--bind", small, small], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", small], check=True)
    try:
        put(cache, *range(4, 8))
        assert right(cache, *range(8)) == [0, 1, 2, 3]
        assert len(warnings(caplog)) == 1
        with pytest.raises(CacheUnusable, match="cannot be used"):
            cache_at(small / "cache")
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_reported_at_the_start(directory: Path) -> None:
    directory.mkdir(mode=0o500)
    with pytest.raises(CacheUnusable, match="cannot be used"):
        DiskCache.open(directory, LIMIT)


# --- the database -------------------------------------------------------------------------------------------


def garble(path: Path) -> None:
    size = max(path.stat().st_size, 8192)
    path.write_bytes(random.Random(1).randbytes(size))


def garble_pages(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:] = random.Random(1).randbytes(len(raw) - 4096)
    path.write_bytes(raw)


def lose_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE Cache")
    connection.close()


def set_version(version: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()

    return change


def other_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def odd_setting(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO Settings VALUES ('_sql', 'x')")
    connection.close()


AT_REST: dict[str, Callable[[Path], object]] = {
    "garbage": garble,
    "cut in the first page": lambda path: os.truncate(path, 100),
    "an older format": set_version(0),
    "a newer format": set_version(99),
    "another program's": other_program,
    "settings that are not ours": odd_setting,
}


@pytest.mark.parametrize("how", AT_REST)
def test_a_database_that_cannot_be_used_is_made_anew_with_one_line_and_its_files_go(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    cache = cache_at()
    put(cache, *range(COUNT), 500)
    cache.close()
    AT_REST[how](directory / "cache.db")
    cache = cache_at()
    assert right(cache, *range(COUNT)) == []
    put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))
    assert len(warnings(caplog)) == 1
    assert "made anew" in warnings(caplog)[0]
    deadline = time.monotonic() + 10
    while not (directory / "swept").exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # swept a little at a time
    assert len(files(directory)) == COUNT, "the one that was not written again is gone"


RUNNING: dict[str, Callable[[Path], object]] = {
    "garbage": garble,
    "garbage after the first page": garble_pages,
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut in the middle": lambda path: os.truncate(path, 4096 * 2),
    "without its table": lose_table,
}


@pytest.mark.parametrize("where", ["while it is open", "at rest"])
@pytest.mark.parametrize("how", RUNNING)
def test_a_broken_database_is_got_over(
    cache_at: Open,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    where: str,
) -> None:
    monkeypatch.setattr("vfs.cache.disk.REOPEN_SECONDS", 0.0)
    cache = cache_at()
    put(cache, *range(COUNT))
    if where == "at rest":
        cache.close()
    else:
        connection = sqlite3.connect(directory / "cache.db")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
    RUNNING[how](directory / "cache.db")
    if where == "at rest":
        cache = cache_at()
    right(cache, *range(COUNT))
    cache.set_record("f:x", b"1")
    for _ in range(3):
        put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))
    assert cache.get_record("f:x") == b"1"
    assert len(warnings(caplog)) <= 2, warnings(caplog)
    cache.close()
    assert right(cache_at(), *range(COUNT)) == list(range(COUNT))


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_garbled_companion_of_the_database_is_got_over(
    cache_at: Open, directory: Path, suffix: str
) -> None:
    killed_writer(directory, after=0.5)
    path = directory / f"cache.db{suffix}"
    assert path.exists()
    garble(path)
    cache = cache_at()
    put(cache, *range(COUNT))
    assert right(cache, *range(COUNT)) == list(range(COUNT))


# --- other processes ----------------------------------------------------------------------------------------

WRITER = """
import random, sys
from pathlib import Path
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
cache = DiskCache.open(Path(sys.argv[1]), int(sys.argv[2]))
print("open", flush=True)
rng = random.Random(sys.argv[3])
while True:
    for _ in range(20):
        index = rng.randrange(400)
        block = Block(50_000)
        block.write(0, random.Random(index).randbytes(50_000))
        if index % 5 == 0:
            block.clip(20_000)
        cache.write(bytes([5]) * 14 + index.to_bytes(2, "big"), index, block)
        cache.set_record(f"f:{index}", b"%d" % index)
    for index in range(first := 1000 + rng.randrange(200), first + rng.randrange(12)):
        block = Block(1 << 20)
        block.write(0, bytes([index % 251]) * (1 << 20))
        cache.write(bytes([5]) * 16, index, block)
    cache.drop(bytes([rng.randrange(6, 9)]) * 16)
    cache.flush(5)
"""


def killed_writer(directory: Path, after: float, limit: int = 6 << 20, seed: int = 0) -> None:
    """A process that writes, evicts and deletes, and is killed `after` seconds after it opened the cache."""
    command = [sys.executable, "-c", WRITER, str(directory), str(limit), str(seed)]
    with Program(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(after)


def test_a_writer_killed_at_any_moment_leaves_a_sound_cache_and_no_stray_files(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moments = random.Random(7)
    for seed in range(20):
        limit = 6 << 20 if seed < 10 else 256 << 20
        killed_writer(directory, after=moments.uniform(0.0, 0.4), limit=limit, seed=seed)
        started = time.monotonic()
        cache = cache_at()
        assert time.monotonic() - started < 4.0
        for index in (*range(400), *range(1000, 1212)):
            block = read_block(cache, lineage(index), index)
            if block is not None:
                expected = content(index)[: 20_000 if index % 5 == 0 else 50_000]
                if index >= 1000:
                    expected = bytes([index % 251]) * BLOCK
                assert block.extents == [(0, len(expected))]
                assert bytes(block.view(0, len(expected))) == expected
        for key, value in cache.records("f:"):
            assert key == f"f:{int(value)}"
        cache.close()
        taken = sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
        assert taken <= limit + BLOCK
    assert warnings(caplog) == []
    cache = cache_at()
    ledger = ledger_of(cache)
    for path in files(directory):
        assert ledger.records.sizes_in(bytes.fromhex(path.name))
    assert len(files(directory)) > 50
    before = usage(cache)
    prune(cache, 0)
    assert files(directory) == []
    assert before - usage(cache) > 20 << 20


def test_a_process_that_is_stopped_in_the_middle_of_a_transaction_holds_nobody_up_for_long(
    cache_at: Open, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at()
    put(cache, *range(4))
    program = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(directory / "cache.db")]
    with Program(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        assert right(cache, *range(4)) == [0, 1, 2, 3]
        assert cache.get_record("f:x") is None
        assert time.monotonic() - started < 4.0
        started = time.monotonic()
        cache.set_record("f:x", b"1")
        assert cache.get_record("f:x") == b"1"
        assert time.monotonic() - started < 4.0
        started = time.monotonic()
        second = cache_at()
        assert time.monotonic() - started < 6.0
        assert second.problem == "another process keeps it locked"
        with pytest.raises(CacheUnusable, match="locked"), looked_after(directory):
            pass
    assert cache.flush(30)
    put(cache, *range(4, 8))
    assert right(cache, *range(8)) == list(range(8))
    assert cache.get_record("f:x") == b"1"
    assert len(warnings(caplog)) <= 2


def test_a_cache_of_a_hundred_thousand_files_opens_at_once_after_a_kill(
    cache_at: Open, directory: Path
) -> None:
    cache = cache_at()
    put(cache, 0)
    cache.close()
    program = """
import os, sys, time
from pathlib import Path
from vfs.cache.rows import Stored
from vfs.cache.records import Records
records = Records(Path(sys.argv[1]))
with records.transaction():
    for i in range(100_000):
        records.set_blocks({(b"%016x" % i, 0): Stored(1 << 20, ((0, 1 << 20),), i, 1 << 20)})
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program, str(directory)], check=False)
    started = time.monotonic()
    cache = cache_at()
    assert right(cache, 0) == [0]
    assert len(cache.index(b"%016x" % 7)) == 1
    assert time.monotonic() - started < 4.0
