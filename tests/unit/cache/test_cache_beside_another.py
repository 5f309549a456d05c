"""A cache that is looked at while another process deletes: what goes just now is gone, and not damaged."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.blocks import read_block
from vfs.cache import fork_gate
from vfs.cache.block import Block
from vfs.cache.database import DATABASE
from vfs.cache.disk import DiskCache
from vfs.cache.ledger import Ledger
from vfs.cache.write_queue import Entry, WriteBatch

LINEAGE = b"\x01" * 16
OTHER = b"\x02" * 16
LIMIT = 1 << 30
SOON = 20.0
"""Seconds within which a thread must have got somewhere."""


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
    cache = DiskCache.open(other.directory, LIMIT, existing=True)
    yield cache
    cache.close()


def block_of(data: bytes) -> Block:
    block = Block(len(data))
    block.write(0, data)
    return block


def ledger_of(cache: DiskCache) -> Ledger:
    ledger = cache._writer.ledger
    assert ledger is not None
    return ledger


def evict(cache: DiskCache) -> None:
    cache.prune(0)


def drop(cache: DiskCache) -> None:
    cache.drop(LINEAGE)
    assert cache.flush(SOON)


@contextmanager
def halfway(
    work: Callable[[DiskCache], None], other: DiskCache, ours: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """In the block, `work` has deleted a file of `other`, and its record is still there until `ours` asks for the lock."""
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
        verdicts = list(ours.verify())
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
    assert [verdict.error for verdict in ours.verify()] == ["the file is gone"]
    assert ours.flush(SOON)
    assert ours.index(LINEAGE) == {}


def test_a_cleared_cache_is_empty_for_the_other_process_too(
    ours: DiskCache, other: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert other.index(LINEAGE) == {0: 1000}
    ours.clear()
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


def an_entry() -> Entry:
    """A block that is to be written."""
    return Entry((OTHER, 3), block_of(b"x" * 1000), ((0, 1000),), 0.0, 4096)


def test_a_block_that_one_process_gives_back_while_another_writes_it_is_noted_by_neither(
    ours: DiskCache, other: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    entry = an_entry()
    failing, writing = ledger_of(ours), ledger_of(other)
    failing.begin(WriteBatch(blocks={entry.place: entry}), LIMIT)
    writing.begin(WriteBatch(blocks={entry.place: entry}), LIMIT)
    writing.files.write(OTHER, [(3, entry.block, entry.extents)])
    failing.finish([entry], {})
    writing.finish([entry], {entry.place: entry.checksum})
    assert [cache.index(OTHER) for cache in (ours, other)] == [{}, {}]
    assert read_block(ours, OTHER, 3) is None
    assert caplog.messages == []
    assert not writing.files.path(OTHER).exists()


def test_a_block_that_made_way_and_was_begun_anew_by_another_process_is_not_noted_by_the_first(
    ours: DiskCache, other: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    entry = an_entry()
    first, second = ledger_of(ours), ledger_of(other)
    first.begin(WriteBatch(blocks={entry.place: entry}), LIMIT)
    first.files.write(OTHER, [(3, entry.block, entry.extents)])
    second.begin(WriteBatch({f"b:{OTHER.hex()}": None}, {}, {entry.place: entry}), LIMIT)
    first.finish([entry], {entry.place: entry.checksum})
    assert read_block(other, OTHER, 3) is None
    second.files.write(OTHER, [(3, entry.block, entry.extents)])
    second.finish([entry], {entry.place: entry.checksum})
    assert read_block(ours, OTHER, 3) is not None
    assert caplog.messages == []


@contextmanager
def locked(cache: DiskCache, attempts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process keeps the database locked until `cache` has asked for it so many times."""
    owner = sqlite3.connect(cache.directory / DATABASE, isolation_level=None, check_same_thread=False)
    records = ledger_of(cache).records
    records._rows("PRAGMA busy_timeout = 1")
    begin, left = records._begin, [attempts]

    def asking(stack: ExitStack) -> Any:
        left[0] -= 1
        if left[0] == 0:
            owner.execute("COMMIT")
        return begin(stack)

    monkeypatch.setattr(records, "_begin", asking)
    owner.execute("BEGIN IMMEDIATE")
    yield
    owner.close()


def test_a_busy_mount_keeps_no_command_from_its_work(
    ours: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in other.directory.glob("blocks/*/*/*"):
        file.unlink()
    with locked(ours, 3, monkeypatch):
        assert [verdict.error for verdict in ours.verify()] == ["the file is gone"]
    with locked(ours, 3, monkeypatch):
        ours.prune(0)
    assert ours.entries() == {}
