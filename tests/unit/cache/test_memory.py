"""The memory budget: that its parts add up to no more than a mount may take, and that the parts are kept."""

from __future__ import annotations

import asyncio
import gc
import pathlib

import pytest

from tests.lab.bottleneck import MBIT, Path, always
from vfs.base import memory
from vfs.cache import buffers
from vfs.cache.block import BLOCK, Block
from vfs.cache.blocks import BlockCache
from vfs.cache.disk import DiskCache
from vfs.formats.limits import Limits, TooLarge
from vfs.frontends.nfs import server


def test_all_that_a_mount_may_hold_at_once_is_no_more_than_it_may_take() -> None:
    assert memory.PROCESS + memory.BUFFERS + memory.REPLIES <= memory.PEAK
    assert memory.PROCESS + memory.LOOK <= memory.PEAK


def test_blocks_for_a_disk_that_takes_none_stay_within_the_budget(tmp_path: pathlib.Path) -> None:
    async def story() -> None:
        before, _ = buffers.taken()
        cache = BlockCache(DiskCache(tmp_path, 1 << 40))  # its writer was not started
        for number in range(2 * memory.BUFFERS // BLOCK):
            block = Block(BLOCK)
            block.mark(0, BLOCK)
            cache.put(bytes(16), number, block, persist=True)
            del block
            if (
                number % 3 == 0 and cache.congested
            ):  # others are read meanwhile, and push the first out of memory
                cache.put(bytes(16), 1_000_000 + number, Block(BLOCK), persist=False)
        used, free = buffers.taken()
        used -= before
        assert memory.BLOCKS + memory.QUEUE < used <= memory.BLOCKS + memory.QUEUE_MOST + BLOCK
        assert free <= memory.SPARE
        assert cache.unkept > 0

    gc.collect()
    asyncio.run(story())


def test_no_path_has_more_in_flight_than_the_budget() -> None:
    path = Path(always(2000 * MBIT), always(0.4))  # its product is 100 MB
    path.run(20)
    assert memory.IN_FLIGHT // 2 < max(size for _, size in path.in_flight) <= memory.IN_FLIGHT + BLOCK
    assert path.model.window == memory.IN_FLIGHT


def test_the_rest_keeps_to_the_budget() -> None:
    assert server.MOST_QUEUED == memory.REPLIES
    limits = Limits()
    limits.take(memory.LOOK)
    with pytest.raises(TooLarge):
        limits.take(1)
