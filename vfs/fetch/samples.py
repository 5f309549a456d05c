"""Digests of bytes that were given out, which outlast the eviction of these: a file's ends, and its doubts.

A growing file is told from a replaced one by its ends. Doubts are ranges that were given out before the file was
settled; they are compared once it is. Pure; owned by the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xxhash import xxh3_128, xxh3_128_digest

from vfs.cache.block import BLOCK, Block

COMPARE = 4096
"""Bytes compared at the beginning and at the old end of a file to tell growth from replacement."""
SHORT_ENDS = 3
"""Pieces before the last one that are compared, too, when that is shorter than `COMPARE`."""
GAP = 32 << 10
"""Ranges of one block with less than this between them are compared with one read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The bytes [start, end) of a file, within one block, by their digest."""

    start: int
    end: int
    digest: bytes

    def matches(self, data: memoryview, at: int) -> bool:
        """Whether `data`, which begins at offset `at` of the file and holds the whole range, has the same bytes."""
        return xxh3_128_digest(data[self.start - at : self.end - at]) == self.digest


class Ends:
    """The first and the last bytes of a file that were ever here."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: Sample | None = None
        self.last: list[Sample] = []

    def note(self, block: Block, at: int) -> None:
        """Take in the ends of a block that begins at offset `at` of the file, if they are the file's."""
        if not block.extents:
            return
        start, end = block.extents[0]
        end = min(end, start + COMPARE)
        first = self.first
        if first is None or (at + start, -at - end) < (first.start, -first.end):
            self.first = _sample(block, at, start, end)
        start, end = block.extents[-1]
        start = max(start, end - COMPARE)
        last = self.last[-1] if self.last else None
        if last is None or (at + end, -at - start) > (last.end, -last.start):
            before = [one for one in self.last if one.end <= at + start] if end - start < COMPARE else []
            self.last = [*before[-SHORT_ENDS:], _sample(block, at, start, end)]

    def samples(self) -> list[Sample]:
        """The samples that a file which grew must still have; none if no byte of it was ever here."""
        return [] if self.first is None else list(dict.fromkeys([self.first, *self.last]))


class Doubt:
    """A range whose digest may go on with the bytes that follow it."""

    __slots__ = ("_hash", "digest", "end", "start")

    def __init__(self, start: int, end: int, digest: bytes, hash: xxh3_128 | None = None) -> None:
        self.start = start
        self.end = end
        self.digest = digest
        self._hash = hash

    def went_on(self, start: int, data: memoryview) -> bool:
        """Take in `data` if it begins where the range ends; whether it did."""
        if self._hash is None or start != self.end:
            return False
        self._hash.update(data)
        self.end, self.digest = start + len(data), self._hash.digest()
        return True


class Doubts:
    """Ranges to be compared once the file is settled; a range is joined to the one that it follows."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[int, list[Doubt]] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __len__(self) -> int:
        return sum(map(len, self._blocks.values()))

    def add(self, start: int, data: memoryview) -> None:
        """The bytes from `start` on, all in one block, were given out."""
        doubts = self._blocks.setdefault(start // BLOCK, [])
        if any(doubt.went_on(start, data) for doubt in doubts):
            return
        hash, end = xxh3_128(data), start + len(data)
        if not any((one.start, one.end, one.digest) == (start, end, hash.digest()) for one in doubts):
            doubts.append(Doubt(start, end, hash.digest(), hash))

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Add samples; those that the doubts have already are left out."""
        for sample in samples:
            doubts = self._blocks.setdefault(sample.start // BLOCK, [])
            if not _covered(sample, doubts):
                doubts.append(Doubt(sample.start, sample.end, sample.digest))

    def groups(self) -> Iterator[list[Sample]]:
        """The ranges as they are now, in groups for one read each: those of one block that are near each other."""
        for doubts in list(self._blocks.values()):
            group: list[Sample] = []
            for one in sorted(doubts, key=lambda one: (one.start, one.end)):
                if group and one.start > max(sample.end for sample in group) + GAP:
                    yield group
                    group = []
                group.append(Sample(one.start, one.end, one.digest))
            yield group

    def settle(self, group: list[Sample]) -> None:
        """These have been compared. A range that was continued meanwhile stays in doubt."""
        index, known = group[0].start // BLOCK, {(one.start, one.end, one.digest) for one in group}
        left = [one for one in self._blocks.get(index, ()) if (one.start, one.end, one.digest) not in known]
        if left:
            self._blocks[index] = left
        else:
            self._blocks.pop(index, None)


def _covered(sample: Sample, doubts: list[Doubt]) -> bool:
    """Whether each byte of the sample is in one of the ranges."""
    at = sample.start
    for one in sorted(doubts, key=lambda one: one.start):
        if one.start <= at < one.end:
            at = one.end
    return at >= sample.end


def _sample(block: Block, at: int, start: int, end: int) -> Sample:
    return Sample(at + start, at + end, xxh3_128_digest(block.view(start, end)))
