"""What a format is: a generator that yields the steps `need`, `want` and `touched`, and goes on once their answer is there.

It does no I/O, so the same code serves three drivers; see `advisor.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

PAGE = 4096
"""Bytes; the kernel asks for whole pages, so smaller ranges would save nothing."""

PIECE = 256 << 10
"""Bytes that a format takes apart between two steps at most, so that the event loop is never held up for long."""

T = TypeVar("T")


class Misfit(ValueError):
    """The bytes are not what the format says they should be: damaged, cut short, hostile or of another format."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` up to, and without, `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def pages(self, size: int) -> Range:
        """Widened to whole pages, but not beyond a file of `size` bytes."""
        return Range(max(0, self.start) // PAGE * PAGE, min(size, -(-self.end // PAGE) * PAGE))


class Known(Protocol):
    """The bytes of one version of one file that are here."""

    @property
    def size(self) -> int: ...

    def get(self, offset: int, length: int) -> bytes | None:
        """The bytes (fewer at the end of the file) if all of them are known, else None."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """Fetch these bytes; go on with them when they are known."""

    range: Range


@dataclass(frozen=True, slots=True)
class Want:
    """These will be read soon: fetch them, in one batch, most urgent first. Goes on at once."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """Go on with the range of the next read, whatever it is."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """The reader jumps: fetching more than it asks for is a waste. Goes on at once."""


Step: TypeAlias = Need | Want | Touched | Sparse
Steps: TypeAlias = Generator[Step, bytes | Range | None, T]


def need(start: int, end: int) -> Steps[bytes]:
    """The bytes from `start` to `end`. Raises Misfit if the file ends before."""
    data = yield Need(Range(start, end))
    if not isinstance(data, bytes) or len(data) != end - start:
        raise Misfit(f"the file ends within {start}..{end}")
    return data


def want(ranges: Iterable[Range]) -> Steps[None]:
    """Have `ranges` fetched ahead of the reads that will ask for them."""
    yield Want(tuple(ranges))


def touched() -> Steps[Range]:
    """Wait for the next read; what it asks for."""
    answer = yield Touched()
    if not isinstance(answer, Range):
        raise Misfit("nobody is reading")
    return answer


@dataclass(frozen=True, slots=True)
class Format:
    """One format. `names` matches (search) names of such files; `magic` is how they begin, for files of other names.

    `advise(size)` says what will be read next. `complete(size)` returns whether a file of `size` bytes is complete, None when
    it cannot tell. Both may raise Misfit at any point, which means "no hint" and "cannot tell".
    """

    names: re.Pattern[bytes] | None = None
    magic: bytes = b""
    advise: Callable[[int], Steps[None]] | None = None
    complete: Callable[[int], Steps[bool | None]] | None = None
