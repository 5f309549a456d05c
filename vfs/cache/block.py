"""A block: 1 MiB of a file in memory, with the ranges of it that are known.

Bytes that are valid never change; a block only gains ranges. Thread-safety: a block belongs to the event
loop's thread. The cache's writer reads the ranges that were valid when the block was handed to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from xxhash import xxh3_64

from vfs.cache.buffers import PAGE, Buffer, pages

BLOCK = 1 << 20
"""Bytes of a file in one block; block `i` starts at `i * BLOCK`."""

MAX_EXTENTS = 480
"""Ranges that one block keeps, in memory and in its record on the disk."""

Extent = tuple[int, int]
"""A range of a block: first byte, and the byte after the last."""


def split(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The bytes `start` to `end` of a file as (block, from, to), from and to counted within the block."""
    while start < end:
        index, a = divmod(start, BLOCK)
        b = min(BLOCK, a + end - start)
        yield index, a, b
        start += b - a


def little(filled: int, capacity: int) -> bool:
    """Whether so few bytes of a block are filled that it should take memory by the page."""
    return filled * 4 < capacity


class Block:
    """`capacity` bytes of a file (at most `BLOCK`; less at its end), of which `extents` are valid.

    All offsets are in bytes from the start of the block. `extents` is sorted, its ranges neither overlap nor
    touch.
    """

    __slots__ = ("__weakref__", "_buffer", "_memory", "capacity", "checksum", "extents", "valid_bytes")

    def __init__(self, capacity: int, *, sparse: bool = False) -> None:
        """`sparse`: little of it will be filled, and it takes memory by the page. Raises ValueError when `capacity`
        is not between 1 and `BLOCK`."""
        if not 0 < capacity <= BLOCK:
            raise ValueError(f"a block cannot hold {capacity} bytes")
        self._buffer = Buffer(capacity, untouched=sparse)
        self._memory = self._buffer.memory
        self.capacity = capacity
        self.extents: list[Extent] = []
        self.valid_bytes = 0
        self.checksum: int | None = None
        """XXH3-64 of all its bytes, if `reckon` was called after the last change."""

    def __repr__(self) -> str:
        return f"<Block {self.valid_bytes} of {self.capacity} bytes in {len(self.extents)} ranges>"

    @property
    def whole(self) -> bool:
        """Whether every byte is valid."""
        return self.valid_bytes == self.capacity

    @property
    def footprint(self) -> int:
        """Bytes of memory that the block takes; what a sparse one takes grows with its ranges."""
        whole = self._buffer.size
        if not self._buffer.untouched:
            return whole
        return min(whole, PAGE + sum(pages(last) - first // PAGE * PAGE for first, last in self.extents))

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `start` to `end` is valid. An empty range always is."""
        if self.valid_bytes == self.capacity:
            return end <= self.capacity or start >= end
        if start >= end:
            return True
        at = bisect_right(self.extents, (start, BLOCK)) - 1
        return at >= 0 and self.extents[at][0] <= start and end <= self.extents[at][1]

    def missing(self, start: int, end: int) -> list[Extent]:
        """The ranges between `start` and `end` that are not valid, in order."""
        gaps: list[Extent] = []
        for first, last in self.extents[max(bisect_left(self.extents, (start, 0)) - 1, 0) :]:
            if first >= end:
                break
            if first > start:
                gaps.append((start, first))
            start = max(start, last)
        if start < end:
            gaps.append((start, end))
        return gaps

    def view(self, start: int, end: int) -> memoryview:
        """The memory of a range, writable and without a copy; `mark` it when it has been filled."""
        if not 0 <= start <= end <= self.capacity:
            raise ValueError(f"{start} to {end} is outside a block of {self.capacity} bytes")
        return self._memory[start:end]

    def address(self, start: int) -> int:
        """The address of a byte, for a reply without a copy. The caller keeps the block alive while it is
        used."""
        return self._buffer.address + start

    def mark(self, start: int, end: int) -> None:
        """Say that `start` to `end` is valid now. When there are too many ranges, the smallest other is
        forgotten."""
        if not 0 <= start <= end <= self.capacity:
            raise ValueError(f"{start} to {end} is outside a block of {self.capacity} bytes")
        if start == end:
            return
        extents = self.extents
        low = bisect_left(extents, (start, 0))
        if low and extents[low - 1][1] >= start:
            low -= 1
        high = bisect_right(extents, (end, BLOCK))
        if low < high:
            start = min(start, extents[low][0])
            end = max(end, extents[high - 1][1])
        for first, last in extents[low:high]:
            self.valid_bytes -= last - first
        extents[low:high] = [(start, end)]
        self.valid_bytes += end - start
        if len(extents) > MAX_EXTENTS:
            smallest = min((e for e in extents if e != (start, end)), key=lambda e: e[1] - e[0])
            extents.remove(smallest)
            self.valid_bytes -= smallest[1] - smallest[0]

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in at `start` and mark it valid."""
        end = start + len(data)
        self.view(start, end)[:] = data
        self.checksum = None
        self.mark(start, end)

    def reckon(self) -> None:
        """Reckon the checksum of all bytes now, while they are in the processor's cache, valid or not. Any thread."""
        self.checksum = checksum(self, [(0, self.capacity)])

    def clip(self, end: int) -> None:
        """Forget what lies at `end` and beyond."""
        self.extents = [(first, min(last, end)) for first, last in self.extents if first < end]
        self.valid_bytes = sum(last - first for first, last in self.extents)

    def grown(self, capacity: int) -> Block:
        """A copy that can hold `capacity` bytes, at least as many as now: the file grew."""
        if capacity < self.capacity:
            raise ValueError(f"{capacity} is less than the {self.capacity} bytes of the block")
        block = Block(capacity, sparse=self._buffer.untouched)
        for first, last in self.extents:
            block.write(first, self.view(first, last))
        return block


def checksum(block: Block, extents: Iterable[Extent]) -> int:
    """XXH3-64 of the bytes in these ranges."""
    reckoned = xxh3_64()
    for first, last in extents:
        reckoned.update(block.view(first, last))
    return reckoned.intdigest()
