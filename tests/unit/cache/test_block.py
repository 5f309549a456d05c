"""A block's ranges, against a model that keeps a set of byte numbers; and the buffers below."""

from __future__ import annotations

import ctypes
import gc
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.base import memory
from vfs.cache import buffers
from vfs.cache.block import BLOCK, MAX_EXTENTS, Block, checksum
from vfs.cache.buffers import PAGE, Buffer

SIZE = 60
spans = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: (min(pair), max(pair)))
steps = st.lists(st.tuples(st.sampled_from(["mark", "write", "clip"]), spans), max_size=30)


def bytes_of(extents: list[tuple[int, int]]) -> set[int]:
    return {at for first, last in extents for at in range(first, last)}


@given(steps, spans)
def test_ranges_behave_as_a_set_of_bytes(
    moves: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    block, model = Block(SIZE), set[int]()
    truth = bytes(range(SIZE))
    for move, (start, end) in moves:
        if move == "clip":
            block.clip(end)
            model -= set(range(end, SIZE))
            continue
        if move == "write":
            block.write(start, truth[start:end])
        else:
            block.view(start, end)[:] = truth[start:end]
            block.mark(start, end)
        model |= set(range(start, end))
    assert bytes_of(block.extents) == model
    assert block.valid_bytes == len(model)
    assert block.whole == (len(model) == SIZE)
    gaps = zip(block.extents, block.extents[1:], strict=False)
    assert all(before[1] < after[0] for before, after in gaps), "ranges are sorted and do not touch"
    assert block.covers(*asked) == (set(range(*asked)) <= model)
    assert bytes_of(block.missing(*asked)) == set(range(*asked)) - model
    assert all(bytes(block.view(first, last)) == truth[first:last] for first, last in block.extents)


@given(steps, st.integers(SIZE, 3 * PAGE))
def test_a_grown_block_holds_the_same_ranges_and_bytes(
    moves: list[tuple[str, tuple[int, int]]], capacity: int
) -> None:
    block = Block(SIZE)
    for _, (start, end) in moves:
        block.write(start, bytes(range(start, end)))
    grown = block.grown(capacity)
    assert grown.capacity == capacity
    assert grown.extents == block.extents
    assert all(grown.view(*extent) == block.view(*extent) for extent in block.extents)


def test_a_checksum_is_kept_until_the_block_changes() -> None:
    block = Block(1000)
    block.write(0, b"a" * 1000)
    block.reckon()
    assert block.checksum == checksum(block, [(0, 1000)])
    block.write(0, b"b")
    assert block.checksum is None


def test_a_block_does_not_shrink() -> None:
    with pytest.raises(ValueError):
        Block(10).grown(9)


@pytest.mark.parametrize("capacity", [0, -1, BLOCK + 1])
def test_a_block_holds_at_least_a_byte_and_at_most_a_mebibyte(capacity: int) -> None:
    with pytest.raises(ValueError):
        Block(capacity)


@pytest.mark.parametrize("span", [(-1, 3), (5, 4), (0, 11)])
def test_what_lies_outside_a_block_is_neither_shown_nor_marked(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        Block(10).view(*span)
    with pytest.raises(ValueError):
        Block(10).mark(*span)


def test_a_whole_block_does_not_cover_what_is_beyond_its_end() -> None:
    block = Block(10)
    block.write(0, bytes(10))
    assert block.covers(0, 10)
    assert not block.covers(5, 11)


def test_of_too_many_ranges_the_smallest_other_one_is_forgotten() -> None:
    block = Block(BLOCK)
    for at in range(MAX_EXTENTS):
        block.mark(at * 100, at * 100 + (1 if at == 7 else 9))
    block.mark(BLOCK - 1, BLOCK)
    assert len(block.extents) == MAX_EXTENTS
    assert block.covers(BLOCK - 1, BLOCK)
    assert not block.covers(700, 701)
    assert block.valid_bytes == sum(last - first for first, last in block.extents)


def test_an_address_leads_to_the_byte_in_memory() -> None:
    block = Block(PAGE * 2)
    block.write(100, b"here")
    assert ctypes.string_at(block.address(100), 4) == b"here"


def test_memory_of_a_whole_block_begins_at_a_page_so_that_it_can_go_to_the_disk_as_it_is() -> None:
    for sparse in (False, True):
        assert Block(BLOCK, sparse=sparse).address(0) % PAGE == 0


def test_a_small_block_takes_little_memory() -> None:
    assert Block(200).footprint <= 2 * PAGE
    assert Block(60_000).footprint <= 64 * 1024 + PAGE


@pytest.mark.usefixtures("before")
def test_memory_is_used_again_when_a_block_is_gone() -> None:
    block = Block(BLOCK)
    address = block.address(0)
    del block
    assert Block(BLOCK).address(0) == address


def test_memory_that_is_still_seen_is_not_used_again() -> None:
    block = Block(BLOCK)
    view, address = block.view(10, 20), block.address(0)
    del block
    gc.collect()
    others = [Block(BLOCK) for _ in range(3)]
    assert all(other.address(0) != address for other in others)
    for other in others:
        other.view(0, BLOCK)[:] = b"x" * BLOCK
    view[:] = b"0123456789"
    assert bytes(view) == b"0123456789"


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of the buffers that other tests left in use, beside which there is room as usual; none are kept."""
    gc.collect()
    buffers._free.clear()
    used = buffers.taken()[0]
    monkeypatch.setattr(memory, "BUFFERS", used + memory.BUFFERS)
    return used


def test_no_more_than_the_bound_is_kept_for_use_again(before: int) -> None:
    held = [Buffer(BLOCK) for _ in range(memory.SPARE // BLOCK + 8)]
    assert buffers.taken() == (before + len(held) * BLOCK, 0)
    del held
    assert buffers.taken() == (before, memory.SPARE)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="memory is told by Linux")
@pytest.mark.usefixtures("before")
def test_half_of_a_huge_page_takes_no_memory_once_it_is_let_go_while_the_other_is_used() -> None:
    first, other = Buffer(BLOCK), Buffer(BLOCK)
    first.memory[:] = other.memory[:] = b"x" * BLOCK
    full = [Buffer(BLOCK) for _ in range(memory.SPARE // BLOCK + 2)]
    del full
    before = resident(other.address)
    del first
    assert resident(other.address) <= before - BLOCK // 2
    assert bytes(other.memory) == b"x" * BLOCK


def resident(address: int) -> int:
    """Bytes in memory of the mapping around an address."""
    with open("/proc/self/smaps") as lines:
        inside = False
        for line in lines:
            if "-" in (head := line.split()[0]) and not head.endswith(":"):
                start, end = (int(word, 16) for word in head.split("-"))
                inside = start <= address < end
            elif inside and head == "Rss:":
                return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.usefixtures("before")
def test_a_forked_child_writes_into_no_buffer_of_its_parent() -> None:
    kept, freed = Buffer(BLOCK), Buffer(BLOCK)
    for buffer in (kept, freed):
        buffer.memory[:] = b"p" * len(buffer.memory)
    del buffer, freed
    child = os.fork()
    if child == 0:
        del kept  # as when a thread that the child does not have is cleared away
        mine = [Buffer(BLOCK) for _ in range(3)]
        for buffer in mine:
            buffer.memory[:] = b"c" * len(buffer.memory)
        os._exit(0)
    os.waitpid(child, 0)
    again = Buffer(BLOCK)
    assert bytes(kept.memory) == bytes(again.memory) == b"p" * len(kept.memory)


def test_a_free_buffer_that_another_thread_takes_first_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Emptied(list[object]):
        def __len__(self) -> int:
            return 1  # what the list had a moment ago

    monkeypatch.setattr(buffers, "_free", Emptied())
    assert Buffer(BLOCK).size == BLOCK
