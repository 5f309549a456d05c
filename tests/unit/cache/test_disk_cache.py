"""The disk cache: what comes back, what is refused, what makes way, and who shares it."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import pickle
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.blocks import ledger_of, prune, read_block, usage, verify
from tests.lab.waiting import eventually
from vfs.base.errors import CacheUnusable
from vfs.cache.block import BLOCK, Block, checksum
from vfs.cache.data import DataFiles
from vfs.cache.database import DATABASE
from vfs.cache.disk import DiskCache
from vfs.cache.ledger import LEAST_FREE, LEAST_SHARE
from vfs.cache.records import Records, lineage_pin
from vfs.cache.rows import Damaged, Stored, allocated, pack, unpack
from vfs.cache.upkeep import clear, look, looked_after

LINEAGE = b"\x01" * 16
OTHER = b"\x02" * 16
LIMIT = 1 << 30
Open = Callable[..., DiskCache]


@pytest.fixture
def cache_at(tmp_path: Path) -> Iterator[Open]:
    """Opens the cache of this test, again and again, and closes what is left open."""
    opened: list[DiskCache] = []

    def open_it(limit: int = LIMIT) -> DiskCache:
        opened.append(DiskCache.open(tmp_path / "cache", limit))
        return opened[-1]

    yield open_it
    for cache in opened:
        cache.close()


def block_of(data: bytes) -> Block:
    block = Block(len(data))
    block.write(0, data)
    return block


def put(cache: DiskCache, lineage: bytes, *indexes: int, size: int = 1000) -> None:
    for index in indexes:
        cache.write(lineage, index, block_of(bytes([index % 251]) * size))
    assert cache.flush(20)


def on_disk(directory: Path) -> int:
    """What `du` says, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("blocks/*/*/*"))


# --- what comes back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 200_000, BLOCK - 1, BLOCK])
def test_a_whole_block_comes_back_as_it_was(cache_at: Open, size: int) -> None:
    data = os.urandom(size)
    cache = cache_at()
    cache.write(LINEAGE, 5, block_of(data))
    cache.close()
    block = read_block(cache_at(), LINEAGE, 5)
    assert block is not None
    assert block.whole
    assert bytes(block.view(0, size)) == data


spans = st.lists(st.tuples(st.integers(0, BLOCK), st.integers(0, 3000)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(spans, st.integers(1, BLOCK), st.integers(0, 200))
def test_a_partial_block_comes_back_with_just_its_ranges(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]], capacity: int, index: int
) -> None:
    block = Block(capacity)
    for start, length in ranges:
        block.write(min(start, capacity), os.urandom(min(length, max(0, capacity - start))))
    store = DataFiles(tmp_path_factory.mktemp("blocks"))
    store.write(LINEAGE, [(index, block, tuple(block.extents))])
    sums = checksum(block, block.extents)
    stored = Stored(capacity, tuple(block.extents), sums, allocated(tuple(block.extents)))
    assert unpack(pack(stored), stored.size) == stored
    (found,) = store.read(LINEAGE, [(index, stored)])
    assert isinstance(found, Block)
    assert (found.capacity, found.extents) == (capacity, block.extents)
    assert all(found.view(*extent) == block.view(*extent) for extent in block.extents)


@pytest.fixture
def short_files() -> Iterator[int]:
    """The longest file, in bytes, that this process may write, as on an old file system or by `ulimit -f`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * BLOCK, hard))
    yield 64 * BLOCK
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1000, BLOCK])
def test_what_lies_beyond_the_longest_file_is_not_kept_and_all_else_is(
    cache_at: Open, short_files: int, size: int
) -> None:
    cache, beyond = cache_at(), short_files // BLOCK
    cache.write(LINEAGE, beyond, block_of(b"a" * size))
    put(cache, OTHER, 0, size=size)
    assert cache.problem is None
    assert cache.index(OTHER) == {0: size}
    assert cache.index(LINEAGE) == {}
    put(cache, LINEAGE, beyond - 1, size=size)
    assert cache.index(LINEAGE) == {beyond - 1: size}
    assert cache.disk_bytes < 3 * BLOCK


def test_a_partial_block_takes_no_more_of_the_disk_than_what_is_valid(cache_at: Open, tmp_path: Path) -> None:
    block = Block(BLOCK)
    block.write(BLOCK - 5000, b"t" * 5000)
    cache = cache_at()
    cache.write(LINEAGE, 0, block)
    cache.close()
    (path,) = files(tmp_path / "cache")
    os.sync()
    assert path.stat().st_blocks * 512 == 8192


def test_what_was_marked_after_a_block_was_handed_over_is_not_written(cache_at: Open) -> None:
    block = Block(1000)
    block.write(0, b"a" * 100)
    cache = cache_at()
    cache.write(LINEAGE, 0, block)
    block.write(500, b"b" * 100)
    cache.close()
    found = read_block(cache_at(), LINEAGE, 0)
    assert found is not None
    assert found.extents == [(0, 100)]


def test_an_unfinished_block_waits_a_moment_and_is_then_written_by_itself(cache_at: Open) -> None:
    block = Block(1000)
    block.write(0, b"a" * 100)
    cache = cache_at()
    cache.write(LINEAGE, 0, block)
    assert cache.pending(LINEAGE, 0) is block
    assert eventually(lambda: cache.pending(LINEAGE, 0) is None)
    assert cache.index(LINEAGE) == {0: 100}


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="O_DIRECT is Linux's")
def test_blocks_go_past_the_page_cache_where_the_file_system_lets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past: list[int] = []
    write = os.pwritev

    def spy(fd: int, views: list[memoryview], at: int) -> int:
        past.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        return write(fd, views, at)

    monkeypatch.setattr(os, "pwritev", spy)
    store = DataFiles(tmp_path)
    block = block_of(os.urandom(BLOCK))
    store.write(LINEAGE, [(3, block, ((0, BLOCK),))])
    (path,) = files(tmp_path)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pass
    else:
        assert past == [os.O_DIRECT]
    stored = Stored(BLOCK, ((0, BLOCK),), checksum(block, [(0, BLOCK)]), BLOCK)
    (found,) = store.read(LINEAGE, [(3, stored)])
    assert isinstance(found, Block)
    assert found.view(0, BLOCK) == block.view(0, BLOCK)


# --- the data file of a lineage -----------------------------------------------------------------------------


def test_all_blocks_of_a_lineage_share_one_file_each_at_its_own_offset(
    cache_at: Open, tmp_path: Path
) -> None:
    cache = cache_at()
    data = {index: os.urandom(BLOCK if index < 19 else 777) for index in range(20)}
    for index in (1, 0, 2, 4, 3, *range(5, 20)):
        cache.write(LINEAGE, index, block_of(data[index]))
    assert cache.flush(20)
    (path,) = files(tmp_path / "cache")
    assert path.read_bytes() == b"".join(data[index] for index in range(20))
    for index, content in data.items():
        block = read_block(cache, LINEAGE, index)
        assert block is not None
        assert bytes(block.view(0, len(content))) == content
    assert abs(usage(cache) - on_disk(tmp_path / "cache")) < 200_000


def test_one_block_is_replaced_or_lost_without_the_others(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1, 2, size=BLOCK)
    (path,) = files(tmp_path / "cache")
    with path.open("r+b") as file:
        file.seek(2 * BLOCK + 5)
        file.write(b"!")
    assert read_block(cache, LINEAGE, 2) is None
    assert cache.flush(20)
    assert set(cache.index(LINEAGE)) == {0, 1}
    os.sync()
    assert path.stat().st_blocks * 512 <= 2 * BLOCK + 65536, "its room is given back"
    put(cache, LINEAGE, 2, size=BLOCK)
    assert read_block(cache, LINEAGE, 2) is not None


def test_a_file_that_was_cut_short_loses_the_blocks_at_its_end(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1, 2, size=BLOCK)
    (path,) = files(tmp_path / "cache")
    os.truncate(path, BLOCK + 4096)
    assert read_block(cache, LINEAGE, 0) is not None
    assert read_block(cache, LINEAGE, 1) is None
    assert read_block(cache, LINEAGE, 2) is None


def test_what_makes_way_leaves_a_hole_and_the_last_block_takes_the_file_with_it(
    cache_at: Open, tmp_path: Path
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, *range(4), size=BLOCK)
    (path,) = files(tmp_path / "cache")
    prune(cache, usage(cache) - BLOCK)
    assert len(cache.index(LINEAGE)) == 3
    os.sync()
    assert path.stat().st_blocks * 512 <= 3 * BLOCK + 65536
    prune(cache, 0)
    assert cache.index(LINEAGE) == {}
    assert not path.exists()


def test_a_block_of_which_is_known_how_it_was_stored_is_read_without_the_database(
    cache_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, *range(100))
    cache.close()
    cache = cache_at()
    assert len(cache.index(LINEAGE)) == 100
    with monkeypatch.context() as patch:
        patch.setattr(Records, "get", lambda *_: pytest.fail("the database was asked"))
        assert all(read_block(cache, LINEAGE, index) is not None for index in range(100))


def test_a_block_is_known_throughout_while_others_come_and_the_disk_is_looked_at_again(
    cache_at: Open,
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, *range(10))
    end = time.monotonic() + 0.3

    def look() -> None:
        while time.monotonic() < end:
            cache.index(LINEAGE)

    def write() -> None:
        for index in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(10)):
            put(cache, LINEAGE, index)

    threads = [threading.Thread(target=work) for work in (look, write)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            assert all(cache.kept(LINEAGE, index) for index in range(10))
    finally:
        sys.setswitchinterval(before)
        for thread in threads:
            thread.join()


def test_a_block_that_another_process_stored_anew_is_found(cache_at: Open) -> None:
    cache, other = cache_at(), cache_at()
    put(cache, LINEAGE, 0)
    assert other.index(LINEAGE) == {0: 1000}
    cache.drop(LINEAGE)
    put(cache, LINEAGE, 0, size=2000)
    found = read_block(other, LINEAGE, 0)
    assert found is not None
    assert found.extents in ([(0, 1000)], [(0, 2000)])
    cache.drop(LINEAGE)
    assert cache.flush(10)
    assert read_block(other, LINEAGE, 0) is None


def test_where_a_file_takes_no_holes_it_makes_way_as_a_whole(
    cache_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.cache.data._fallocate", None)
    cache = cache_at(8 << 20)
    put(cache, LINEAGE, *range(4), size=BLOCK)
    put(cache, OTHER, *range(5), size=BLOCK)
    assert cache.index(LINEAGE) == {}
    assert set(cache.index(OTHER)) == set(range(5))
    assert on_disk(tmp_path / "cache") <= (8 << 20) + BLOCK


def test_what_a_kill_leaves_of_a_write_is_no_block_and_counts_and_can_make_way(
    cache_at: Open, tmp_path: Path
) -> None:
    cache = cache_at()
    ledger = ledger_of(cache)
    with ledger.records.transaction():
        ledger.records.reserve({(LINEAGE, 0): BLOCK})
    ledger.files.write(LINEAGE, [(0, block_of(bytes(BLOCK)), ((0, BLOCK),))])
    assert usage(cache) > BLOCK
    assert cache.index(LINEAGE) == {}
    assert read_block(cache, LINEAGE, 0) is None
    assert verify(cache) == []
    prune(cache, 0)
    assert usage(cache) < BLOCK
    assert files(tmp_path / "cache") == []


@pytest.mark.parametrize("step", ["punch", "remove", "forget"])
def test_what_a_kill_leaves_of_an_eviction_is_no_damage_and_counts_and_can_make_way(
    cache_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1, size=BLOCK)
    ledger = ledger_of(cache)
    target = usage(cache) - BLOCK if step == "punch" else 0

    def killed(*_: object) -> None:
        raise sqlite3.InterfaceError("killed")

    with monkeypatch.context() as patch, pytest.raises(sqlite3.InterfaceError):
        patch.setattr(ledger.records, "forget", killed)
        if step != "forget":
            patch.setattr(ledger.files, step, killed)
        prune(cache, target)
    left = 1 if step == "punch" else 0
    assert len(verify(cache)) == len(cache.index(LINEAGE)) == left
    assert all(verdict.error is None for verdict in verify(cache))
    assert usage(cache) > 2 * BLOCK
    prune(cache, 0)
    assert usage(cache) < BLOCK
    assert files(tmp_path / "cache") == []


def test_room_that_cannot_be_given_back_just_now_goes_on_counting(
    cache_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1, size=BLOCK)
    before, open_file = usage(cache), os.open

    def without_descriptors(path: Path, *how: int) -> int:
        if "blocks" in Path(path).parts:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_file(path, *how)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many"):
        patch.setattr(os, "open", without_descriptors)
        prune(cache, before - BLOCK)
    assert usage(cache) >= before
    prune(cache, 0)
    assert usage(cache) < BLOCK


@pytest.mark.parametrize("total", [100 * LEAST_FREE, 100 * BLOCK])
def test_the_cache_leaves_room_on_the_disk_and_loses_nothing_to_others(
    cache_at: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    total: int,
) -> None:
    least = min(LEAST_FREE, total // LEAST_SHARE)
    disk, others = shutil.disk_usage(tmp_path), total - least - 5 * BLOCK

    def used(_: Path) -> object:
        return disk._replace(total=total, free=max(0, total - others - on_disk(tmp_path)))

    monkeypatch.setattr(shutil, "disk_usage", used)
    cache = cache_at()
    for index in range(12):
        put(cache, LINEAGE, index, size=BLOCK)
    assert list(cache.index(LINEAGE)) == [8, 9, 10, 11]
    assert cache.capacity()[0] < 6 * BLOCK
    others += 3 * BLOCK  # the disk is full now
    put(cache, LINEAGE, 12, size=BLOCK)
    assert list(cache.index(LINEAGE)) == [9, 10, 11, 12]
    assert cache.problem is None
    assert caplog.records == []
    cache.set_record(lineage_pin(LINEAGE), b"")
    put(cache, OTHER, 0, size=BLOCK)
    assert cache.index(OTHER) == {}
    assert cache.problem == "its disk is full"


def test_what_the_disk_refuses_counts_no_longer(cache_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0)
    ledger = ledger_of(cache)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.files, "write", full)
        put(cache, LINEAGE, 0, 1)
    assert ledger_of(cache).records.sizes() == {LINEAGE: 4096}
    assert read_block(cache, LINEAGE, 0) is not None


def test_a_data_file_without_a_record_is_swept_away_and_no_other(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0)
    (path,) = files(tmp_path / "cache")
    stray = path.with_name(path.name[:-1] + "7")
    stray.write_bytes(b"lost its record")
    ledger = ledger_of(cache)
    for _ in ledger.sweep():
        pass
    assert files(tmp_path / "cache") == [path]


def test_small_records_make_way_when_the_database_takes_too_much_and_those_of_pins_stay(
    cache_at: Open,
) -> None:
    cache = cache_at(8 << 20)
    cache.set_record(lineage_pin(LINEAGE), b"")
    cache.set_record("f:pinned", b'{"lineage": "%s"}' % LINEAGE.hex().encode())
    for index in range(4000):
        cache.set_record(f"d:{index:05}", b"x" * 1000)
    assert cache.flush(20)
    put(cache, OTHER, 0)
    put(cache, OTHER, 1)
    assert usage(cache) <= 4 << 20
    left = [key for key, _ in cache.records("d:")]
    assert 100 < len(left) < 1500
    assert left[-1] == "d:03999"
    assert cache.get_record("f:pinned") is not None
    assert cache.get_record(lineage_pin(LINEAGE)) is not None


# --- what is refused ----------------------------------------------------------------------------------------


@given(at=st.integers(0, 8191), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_no_flipped_byte_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    store = DataFiles(tmp_path_factory.mktemp("flip"))
    block = Block(8192)
    block.write(100, os.urandom(3000))
    block.write(4000, os.urandom(4192))
    extents = tuple(block.extents)
    store.write(LINEAGE, [(0, block, extents)])
    stored = Stored(8192, extents, checksum(block, extents), 8192)
    path = store.path(LINEAGE)
    raw = bytearray(path.read_bytes())
    raw[at] ^= flip
    path.write_bytes(raw)
    (found,) = store.read(LINEAGE, [(0, stored)])
    if isinstance(found, Damaged):
        return
    assert at < 100 or 3100 <= at < 4000, "only what is between the ranges may change"
    assert all(found.view(*extent) == block.view(*extent) for extent in extents)


def test_a_file_of_another_lineage_is_not_taken_for_this_one(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0)
    put(cache, OTHER, 1)
    cache.write(OTHER, 0, block_of(b"other" * 200))
    assert cache.flush(10)
    one, two = files(tmp_path / "cache")
    one.write_bytes(two.read_bytes())
    assert read_block(cache, LINEAGE, 0) is None
    assert read_block(cache, OTHER, 0) is not None


def tamper(directory: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(directory / "cache" / "cache.db") as connection:
        connection.execute(statement, values)
    connection.close()


class Exploit:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_in_a_row_is_deleted_and_not_loaded(cache_at: Open, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.set_record("f:x", b"1")
    cache.close()
    pickled = pickle.dumps(Exploit(proof))
    tamper(tmp_path, "UPDATE Cache SET mode = 4, filename = NULL, value = ?", pickled)
    cache = cache_at()
    assert read_block(cache, LINEAGE, 0) is None
    assert cache.get_record("f:x") is None
    assert cache.records("f:") == []
    assert all(verdict.error for verdict in verify(cache))
    assert cache.flush(10)
    assert not proof.exists()
    assert verify(cache) == []


def test_a_pickle_in_a_file_is_not_loaded(cache_at: Open, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.close()
    (path,) = files(tmp_path / "cache")
    path.write_bytes(pickle.dumps(Exploit(proof)))
    tamper(tmp_path, "UPDATE Cache SET mode = 4")
    cache = cache_at()
    assert read_block(cache, LINEAGE, 0) is None
    assert not proof.exists()


def test_a_pickle_as_a_key_is_not_loaded(cache_at: Open, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.close()
    tamper(tmp_path, "UPDATE Cache SET raw = 0, key = ?", pickle.dumps(Exploit(proof)))
    cache = cache_at()
    assert read_block(cache, LINEAGE, 0) is None
    assert cache.index(LINEAGE) == {}
    verify(cache)
    clear(ledger_of(cache), in_use=False)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["../../victim", "/victim", "blocks/../../victim", "victim"])
def test_a_row_that_names_a_file_leads_to_no_reading_and_no_deleting(
    cache_at: Open, tmp_path: Path, name: str
) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.close()
    victim = tmp_path / "victim"
    victim.write_bytes(files(tmp_path / "cache")[0].read_bytes())
    tamper(
        tmp_path,
        "UPDATE Cache SET filename = ?, mode = 2",
        name.replace("/victim", str(victim)) if name[0] == "/" else name,
    )
    cache = cache_at()
    assert read_block(cache, LINEAGE, 0) is None
    assert cache.flush(10)
    clear(ledger_of(cache), in_use=False)
    assert victim.exists()


def test_a_link_in_place_of_a_block_file_is_not_followed(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0)
    (path,) = files(tmp_path / "cache")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert read_block(cache, LINEAGE, 0) is None
    assert cache.flush(10)
    assert cache.index(LINEAGE) == {}
    assert (tmp_path / "elsewhere").exists()


def test_a_record_that_was_changed_is_forgotten(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    cache.set_record("f:x", b"value")
    cache.close()
    tamper(tmp_path, "UPDATE Cache SET value = ? WHERE key = 'f:x'", b"1234other")
    cache = cache_at()
    assert cache.get_record("f:x") is None
    assert cache.flush(10)
    assert cache.records("f:") == []
    cache.set_record("f:x", b"new")
    assert cache.get_record("f:x") == b"new"


def test_a_size_that_is_no_number_keeps_nothing_from_being_written(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1)
    cache.close()
    tamper(tmp_path, "UPDATE Cache SET size = 'much'")
    cache = cache_at(4 << 20)
    for index in range(6):
        put(cache, OTHER, index, size=BLOCK)
    assert read_block(cache, OTHER, 5) is not None
    assert cache.index(LINEAGE) == {}


def test_a_value_that_is_text_makes_way_like_others(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    cache.set_record("d:x", b"1")
    cache.close()
    tamper(tmp_path, "UPDATE Cache SET value = 'text'")
    cache = cache_at(1)  # the database takes more than its share
    cache.set_record("d:y", b"1")
    assert cache.flush(20)
    assert cache.records("") == []


def test_what_is_not_bytes_is_not_stored_and_a_record_cannot_pose_as_a_block(cache_at: Open) -> None:
    cache = cache_at()
    with pytest.raises(ValueError):
        cache.set_record("b:00000000000000000000000000000000:0", b"x")


# --- what makes way -----------------------------------------------------------------------------------------


def test_it_stays_under_its_limit(cache_at: Open, tmp_path: Path) -> None:
    limit = 24 << 20
    cache = cache_at(limit)
    for index in range(64):
        cache.write(LINEAGE, index, block_of(bytes(BLOCK)))
        if index % 8 == 7:
            assert cache.flush(20)
            assert on_disk(tmp_path / "cache") <= limit + BLOCK
    assert usage(cache) <= limit
    assert len(cache.index(LINEAGE)) >= 16


def test_the_least_recently_used_makes_way_first(cache_at: Open) -> None:
    cache = cache_at(8 << 20)
    for index in range(6):
        put(cache, LINEAGE, index, size=BLOCK)
    assert read_block(cache, LINEAGE, 0) is not None
    assert read_block(cache, LINEAGE, 2) is not None
    for index in range(3):
        put(cache, OTHER, index, size=BLOCK)
    left = set(cache.index(LINEAGE))
    assert {0, 2} <= left
    assert 1 not in left
    assert set(cache.index(OTHER)) == {0, 1, 2}


def test_what_was_used_in_an_earlier_session_counts(cache_at: Open) -> None:
    cache = cache_at()
    for index in range(3):
        put(cache, LINEAGE, index, size=BLOCK)
    read_block(cache, LINEAGE, 0)
    cache.close()
    cache = cache_at()
    assert prune(cache, usage(cache) - 2 * BLOCK) > BLOCK
    assert set(cache.index(LINEAGE)) == {0}


def test_what_is_pinned_never_makes_way(cache_at: Open, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_at(8 << 20)
    put(cache, LINEAGE, 0, 1, 2, size=BLOCK)
    cache.set_record(lineage_pin(LINEAGE), b"")
    for index in range(12):
        put(cache, OTHER, index, size=BLOCK)
    assert set(cache.index(LINEAGE)) == {0, 1, 2}
    cache.close()
    cache = cache_at(8 << 20)
    assert cache.get_record(lineage_pin(LINEAGE)) is not None
    assert cache.get_record(lineage_pin(OTHER)) is None
    prune(cache, 0)
    assert set(cache.index(LINEAGE)) == {0, 1, 2}
    assert cache.index(OTHER) == {}
    cache.set_record(lineage_pin(LINEAGE), None)
    prune(cache, 0)
    assert cache.index(LINEAGE) == {}
    assert caplog.records == []


def test_when_all_is_pinned_new_blocks_are_not_kept_and_it_is_said_once(
    cache_at: Open, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at(5 << 20)
    cache.set_record(lineage_pin(LINEAGE), b"")
    put(cache, LINEAGE, *range(4), size=BLOCK)
    for index in range(6):
        put(cache, OTHER, index, size=BLOCK)
    assert cache.index(OTHER) == {}
    assert usage(cache) <= 5 << 20
    assert set(cache.index(LINEAGE)) == set(range(4))
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


# --- who shares it ------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
directory, mark, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = DiskCache.open(directory, limit)
for index in range(40):
    for lineage in (bytes([mark]) * 16, bytes([9]) * 16):
        block = Block(200_000)
        block.write(0, bytes([index]) * 200_000)
        cache.write(lineage, index, block)
    (found,) = cache.read(bytes([9]) * 16, [index // 2])
    assert found is None or bytes(found.view(0, 200_000)) == bytes([index // 2]) * 200_000
assert cache.flush(30)
cache.close()
"""


def test_two_processes_share_one_cache(cache_at: Open, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    processes = [subprocess.Popen([*command, str(mark), str(LIMIT)]) for mark in (3, 4)]
    assert [process.wait(60) for process in processes] == [0, 0]
    cache = cache_at()
    for mark in (3, 4, 9):
        assert set(cache.index(bytes([mark]) * 16)) == set(range(40))
    assert all(verdict.error is None for verdict in verify(cache))
    assert len(files(tmp_path / "cache")) == 3


def test_two_processes_keep_to_one_limit(cache_at: Open, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    processes = [subprocess.Popen([*command, str(mark), str(8 << 20)]) for mark in (3, 4)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert on_disk(tmp_path / "cache") <= (8 << 20) + BLOCK
    assert all(verdict.error is None for verdict in verify(cache_at(8 << 20)))


# --- the rest -----------------------------------------------------------------------------------------------


def test_everything_belongs_to_the_user_alone(cache_at: Open, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        cache = cache_at()
        put(cache, LINEAGE, 0)
        for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(old)


def test_an_empty_directory_of_the_user_is_made_private_and_one_with_other_things_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    for name, mode in (("empty", 0o700), ("used", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
        if name == "used":
            (tmp_path / name / "thesis.txt").write_text("mine")
        DiskCache.open(tmp_path / name, LIMIT).close()
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
        assert stat.S_IMODE((tmp_path / name / "blocks").stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match="cannot be used"):
        DiskCache.open(tmp_path / "file" / "cache", LIMIT)


def test_clearing_leaves_nothing(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    cache.set_record("f:x", b"1")
    cache.set_record(lineage_pin(OTHER), b"")
    put(cache, LINEAGE, *range(20))
    clear(ledger_of(cache), in_use=False)
    assert cache.index(LINEAGE) == {}
    assert cache.records("") == []
    assert cache.get_record(lineage_pin(OTHER)) is None
    assert files(tmp_path / "cache") == []
    assert ledger_of(cache).records.sizes() == {}
    put(cache, LINEAGE, 1)
    assert read_block(cache, LINEAGE, 1) is not None


def test_a_pin_is_gone_while_its_record_is_deleted(cache_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_at()
    cache.set_record(lineage_pin(LINEAGE), b"f:x")
    assert cache.flush(20)
    ledger = ledger_of(cache)
    let_go = threading.Event()
    write, scan = ledger.write, ledger.records.scan

    def later(*work: Any) -> Any:
        assert let_go.wait(20)
        return write(*work)

    def looked_at_before(prefix: str) -> list[tuple[str, bytes]]:
        found = list(scan(prefix))
        if threading.current_thread() is threading.main_thread():
            let_go.set()
            assert cache.flush(20)
        return found

    monkeypatch.setattr(ledger, "write", later)
    monkeypatch.setattr(ledger.records, "scan", looked_at_before)
    cache.set_record(lineage_pin(LINEAGE), None)
    assert cache.get_record(lineage_pin(LINEAGE)) is None
    assert cache.records("p:") == []


def test_clearing_a_cache_in_use_leaves_the_records_that_others_go_by(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    cache.set_record("f:x", b"1")
    cache.set_record(lineage_pin(LINEAGE), b"")
    put(cache, LINEAGE, *range(20))
    clear(ledger_of(cache), in_use=True)
    assert [key for key, _ in cache.records("")] == ["f:x"]
    assert cache.get_record(lineage_pin(LINEAGE)) is None
    assert files(tmp_path / "cache") == []


def test_only_what_is_there_and_ours_is_opened_when_that_is_asked(cache_at: Open, tmp_path: Path) -> None:
    with pytest.raises(CacheUnusable, match="there is no cache in"), looked_after(tmp_path / "cache"):
        pass
    assert not (tmp_path / "cache").exists()
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.close()
    tamper(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(CacheUnusable, match="another version"), looked_after(tmp_path / "cache"):
        pass
    assert len(files(tmp_path / "cache")) == 1, "nothing was renewed"


def test_a_look_tells_how_much_there_is_and_changes_nothing(cache_at: Open, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    assert look(directory) is None
    assert not directory.exists()
    cache = cache_at()
    put(cache, LINEAGE, 0, 1)
    put(cache, OTHER, 0)
    assert look(directory) == usage(cache)  # while it is in use
    cache.close()
    tamper(tmp_path, "PRAGMA user_version = 77")
    for said in ("another version", "cannot be read"):
        before = (directory / DATABASE).read_bytes()
        with pytest.raises(CacheUnusable, match=said):
            look(directory)
        assert (directory / DATABASE).read_bytes() == before
        (directory / DATABASE).write_bytes(before[:4096] + os.urandom(len(before) - 4096))
    assert len(files(directory)) == 2


def test_entries_tell_what_each_lineage_takes_of_the_disk(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    put(cache, LINEAGE, 0, 1, size=500)
    put(cache, OTHER, 7, size=10)
    assert ledger_of(cache).records.sizes() == {LINEAGE: 8192, OTHER: 4096}
    cache.close()
    tamper(tmp_path, "UPDATE Cache SET tag = 'no lineage' WHERE tag = ?", OTHER.hex())
    assert ledger_of(cache_at()).records.sizes() == {LINEAGE: 8192}


def test_verifying_finds_what_is_damaged_and_drops_just_that(cache_at: Open, tmp_path: Path) -> None:
    cache = cache_at()
    third = b"\x03" * 16
    for lineage in (LINEAGE, OTHER, third):
        put(cache, lineage, 0)
    cache.set_record("f:x", b"1")
    assert cache.flush(10)
    bad, gone, _ = files(tmp_path / "cache")
    bad.write_bytes(b"!" + bad.read_bytes()[1:])
    gone.unlink()
    verdicts = verify(cache)
    assert len(verdicts) == 4
    assert len([verdict for verdict in verdicts if verdict.error]) == 2
    assert cache.flush(10)
    assert [len(cache.index(lineage)) for lineage in (LINEAGE, OTHER, third)] == [0, 0, 1]
    assert cache.get_record("f:x") == b"1"


def test_records_with_one_prefix_are_listed_in_order_with_those_that_wait(cache_at: Open) -> None:
    cache = cache_at()
    for name in ("d:b", "d:a", "e:x", "d:é"):
        cache.set_record(name, name.encode())
    assert cache.flush(10)
    cache.set_record("d:c", b"d:c")
    cache.set_record("d:a", None)
    assert cache.records("d:") == [(name, name.encode()) for name in ("d:b", "d:c", "d:é")]


def test_pins_outlive_a_damaged_database_and_a_cache_of_another_format(
    cache_at: Open, tmp_path: Path
) -> None:
    directory = tmp_path / "cache"
    cache = cache_at()
    put(cache, LINEAGE, 0)
    cache.set_record(lineage_pin(LINEAGE), b"")
    cache.set_record("pin:profile:1", b"exp/a.bin")
    cache.close()
    (directory / DATABASE).write_bytes(os.urandom(50_000))
    for suffix in ("-wal", "-shm"):
        (directory / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    cache = cache_at()
    assert cache.get_record("pin:profile:1") == b"exp/a.bin"
    assert cache.get_record(lineage_pin(LINEAGE)) is not None
    assert cache.index(LINEAGE) == {}
    cache.close()
    tamper(tmp_path, "PRAGMA user_version = 3")
    cache = cache_at()
    assert cache.get_record("pin:profile:1") == b"exp/a.bin"
    assert cache.get_record(lineage_pin(LINEAGE)) is not None
    cache.set_record("pin:profile:1", None)
    assert cache.flush(10)
    assert b"pin:profile:1" not in (directory / "pins").read_bytes()
