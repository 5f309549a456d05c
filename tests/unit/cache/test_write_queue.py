"""The queue before the disk: what waits for it ends with it, and not before it is done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.lab.memory_stack import MemoryStack, play
from vfs.cache import write_queue
from vfs.cache.block import BLOCK, Block, Extent, checksum
from vfs.cache.write_queue import WriteQueue


def test_a_flush_that_a_disk_holds_up_ends_when_the_cache_is_closed() -> None:
    """A process waits for its threads when it ends: an unmounted one is still running until then."""
    queue = WriteQueue()
    queue.set_record("key", b"value")  # nothing takes it: the disk hangs
    outcome: list[bool] = []
    flushing = threading.Thread(target=lambda: outcome.append(queue.flush(60)), daemon=True)
    flushing.start()
    queue.end(time.monotonic() + 0.1)
    flushing.join(10)
    assert outcome == [False]


def test_a_whole_block_is_summed_up_when_its_bytes_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, while the processor's cache has them."""
    later: list[int] = []

    def spy(block: Block, extents: Iterable[Extent]) -> int:
        later.append(block.valid_bytes)
        return checksum(block, extents)

    monkeypatch.setattr(write_queue, "checksum", spy)
    data = os.urandom(2 * BLOCK + 5)

    async def story(stack: MemoryStack) -> None:
        stack.old(b"/r/model.pt", data)
        await stack.tree.start()
        assert await stack.read(b"model.pt") == data
        await stack.cache.flush()
        await stack.restart()
        assert await stack.read(b"model.pt") == data

    play(story, place=tmp_path)
    assert later == []


def test_a_lineage_that_could_not_be_deleted_waits_until_it_can() -> None:
    queue, lineage = WriteQueue(), bytes(16)
    queue.drop(lineage)
    queue.done(queue.take(), records=False)
    assert queue.dropped(lineage)
    queue.done(queue.take(), records=True)
    assert not queue.dropped(lineage)
