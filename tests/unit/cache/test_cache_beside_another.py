"""A cache that is looked at while another process deletes: what goes just now is gone, and not damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.blocks import ledger_of, prune, read_block, verify
from vfs.cache import fork_gate
from vfs.cache.block import Block
from vfs.cache.database import DATABASE
from vfs.cache.disk import DiskCache
from vfs.cache.file_lock import locked
from vfs.cache.ledger import WRITING
from vfs.cache.upkeep import clear

LINEAGE = b"\x01" * 16
OTHER = b"\x02" * 16
LIMIT = 1 << 30
SOON = 20.0
"""Seconds within which a thread must have got somewhere."""
HELD = 0.2
"""Seconds that a write takes here."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[DiskCache]:
    """The mount's cache, with one block in it."""
    cache = DiskCache.open(tmp_path / "cache", LIMIT)
    cache.write(LINEAGE, 0, block_of(b"a" * 1000))
    assert cache.flush(SOON)
    yield cache
    cache.close()


@pytest.fixture
def ours(tmp_path: Path, other: DiskCache) -> Iterator[DiskCache]:
    """The command's, on the same directory."""
    cache = DiskCache.open(other.directory, LIMIT)
    yield cache
    cache.close()


def block_of(data: bytes) -> Block:
    block = Block(len(data))
    block.write(0, data)
    return block


def evict(cache: DiskCache) -> None:
    prune(cache, 0)


def drop(cache: DiskCache) -> None:
    cache.drop(LINEAGE)
    assert cache.flush(SOON)


@contextmanager
def halfway(
    work: Callable[[DiskCache], None], other: DiskCache, ours: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """In the block, `work` has deleted a data file whose blocks `ours` remembers. It goes on when `ours` asks for the lock."""
    assert ours.index(LINEAGE)
    deleted, go_on = threading.Event(), threading.Event()
    files, records = ledger_of(other).files, ledger_of(ours).records
    remove, begin = files.remove, records.transaction

    def pausing(lineage: bytes) -> None:
        remove(lineage)
        deleted.set()
        assert go_on.wait(SOON)

    def asking() -> Any:
        go_on.set()
        return begin()

    monkeypatch.setattr(files, "remove", pausing)
    monkeypatch.setattr(records, "transaction", asking)
    working = threading.Thread(target=work, args=(other,))
    working.start()
    try:
        assert deleted.wait(SOON)
        monkeypatch.setattr(fork_gate, "_lock", threading.RLock())  # another process has its own
        yield
    finally:
        go_on.set()
        working.join(SOON)
        assert not working.is_alive()


@pytest.mark.parametrize("work", [evict, drop])
def test_what_another_process_is_deleting_is_not_damaged(
    work: Callable[[DiskCache], None], other: DiskCache, ours: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with halfway(work, other, ours, monkeypatch):
        verdicts = verify(ours)
    assert [verdict.error for verdict in verdicts if verdict.error is not None] == []


@pytest.mark.parametrize("work", [evict, drop])
def test_reading_what_another_process_is_deleting_is_a_miss_without_a_warning(
    work: Callable[[DiskCache], None],
    other: DiskCache,
    ours: DiskCache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), halfway(work, other, ours, monkeypatch):
        found = read_block(ours, LINEAGE, 0)
    assert found is None
    assert caplog.messages == []


def test_a_file_that_is_really_gone_is_still_found(ours: DiskCache, other: DiskCache) -> None:
    for file in other.directory.glob("blocks/*/*/*"):
        file.unlink()
    assert [verdict.error for verdict in verify(ours)] == ["No such file or directory"]
    assert ours.flush(SOON)
    assert ours.index(LINEAGE) == {}


def test_a_cleared_cache_is_empty_for_the_other_process_too(
    ours: DiskCache, other: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert other.index(LINEAGE) == {0: 1000}
    clear(ledger_of(ours), in_use=False)
    assert read_block(other, LINEAGE, 0) is None
    assert other.index(LINEAGE) == {}
    other.write(LINEAGE, 0, block_of(b"b" * 2000))
    assert other.flush(SOON)
    found = read_block(ours, LINEAGE, 0)
    assert found is not None
    assert bytes(found.view(0, 2000)) == b"b" * 2000
    assert caplog.messages == []


def test_what_two_processes_know_of_one_block_is_right_whoever_is_last(
    ours: DiskCache, other: DiskCache
) -> None:
    content = bytes(range(250)) * 8
    for cache, first, last in ((ours, 0, 700), (other, 500, 2000), (ours, 0, 900)):
        block = Block(2000)
        block.write(first, content[first:last])
        cache.write(OTHER, 3, block)
        assert cache.flush(SOON)
        for reader in (ours, other):
            found = read_block(reader, OTHER, 3)
            assert found is not None
            assert found.extents
            assert all(bytes(found.view(a, b)) == content[a:b] for a, b in found.extents)


def test_a_lineage_is_not_deleted_while_another_process_writes_it(
    ours: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is written then lies in a deleted file, and nothing counts it."""
    files, order, begun = ledger_of(other).files, list[str](), threading.Event()
    write, remove = files.write, ledger_of(ours).files.remove

    def writing(*of: Any) -> None:
        begun.set()
        time.sleep(HELD)
        write(*of)
        order.append("written")

    def removing(lineage: bytes) -> None:
        order.append("removed")
        remove(lineage)

    monkeypatch.setattr(files, "write", writing)
    monkeypatch.setattr(ledger_of(ours).files, "remove", removing)
    other.write(OTHER, 0, block_of(b"x" * 1000))
    assert begun.wait(SOON)
    ours.drop(OTHER)
    assert ours.flush(SOON)
    assert other.flush(SOON)
    assert order == ["written", "removed"]
    assert [cache.index(OTHER) for cache in (ours, other)] == [{}, {}]


def test_a_file_that_is_deleted_while_it_is_read_takes_no_room(ours: DiskCache, other: DiskCache) -> None:
    with ledger_of(other).files.path(LINEAGE).open("rb") as reading:
        assert os.fstat(reading.fileno()).st_blocks
        drop(ours)
        assert os.fstat(reading.fileno()).st_blocks == 0


def test_a_process_that_was_stopped_while_it_writes_holds_the_others_up_once(
    ours: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_of(ours), "_patience", HELD)
    with locked(ours.directory / WRITING):
        started = time.monotonic()
        for index in range(10):
            ours.write(OTHER, index, block_of(b"x" * 1000))
            assert ours.flush(SOON)
        assert HELD < time.monotonic() - started < 5 * HELD
    assert len(ours.index(OTHER)) == 10


@contextmanager
def busy(cache: DiskCache, attempts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process keeps the database locked until `cache` has asked for it so many times."""
    owner = sqlite3.connect(cache.directory / DATABASE, isolation_level=None, check_same_thread=False)
    records = ledger_of(cache).records
    records._rows("PRAGMA busy_timeout = 1")
    transact, left = records._cache.transact, [attempts]

    def asking() -> Any:
        left[0] -= 1
        if left[0] == 0:
            owner.execute("COMMIT")
        return transact()

    monkeypatch.setattr(records._cache, "transact", asking)
    owner.execute("BEGIN IMMEDIATE")
    yield
    owner.close()


def test_a_busy_mount_keeps_no_command_from_its_work(
    ours: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in other.directory.glob("blocks/*/*/*"):
        file.unlink()
    with busy(ours, 3, monkeypatch):
        assert [verdict.error for verdict in verify(ours)] == ["No such file or directory"]
    with busy(ours, 3, monkeypatch):
        prune(ours, 0)
    assert ledger_of(ours).records.sizes() == {}
