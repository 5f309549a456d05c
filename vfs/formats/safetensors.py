"""safetensors: a header that lists every tensor, then the tensors' bytes. Usually mapped, tensors read one by
one.

Source: github.com/huggingface/safetensors, README, section Format: a u64 (little-endian) with the length of
the header, at most 100 MB; the header, JSON; the bytes that its `data_offsets` count from the header's end.
A header is read in pieces, so that neither its memory nor a step of the event loop grows with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vfs.formats.api import PIECE, Format, Misfit, Range, Sparse, Steps, need, touched, want
from vfs.formats.items import Items
from vfs.formats.limits import MOST_DIMENSIONS, Limits

LONGEST_HEADER = 100_000_000
HEADER_AHEAD = 8 << 20
"""Bytes of header that are fetched ahead."""
MOST_TENSORS = 20_000
"""Tensors that are looked for while a file is read; more are left to readahead."""

LONGEST_ENTRY = 8 << 10
"""Bytes that one tensor's entry takes at most: 64 dimensions of 20 digits, and its name."""
LONGEST_METADATA = 4 << 20

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Only objects of plain values: the format has no others.
_ENTRY = re.compile(
    rb"%s(%s%s:%s\{[^{}\"]*+(?:%s[^{}\"]*+)*+\})%s([,}])"
    % (_SPACE, _STRING, _SPACE, _SPACE, _STRING, _SPACE),
    re.DOTALL,
)
_OPENS = re.compile(rb"%s\{%s(\}?)" % (_SPACE, _SPACE))
_METADATA = re.compile(rb'%s"__metadata__"' % _SPACE)
_OFFSETS = re.compile(
    rb'"data_offsets"(?:\s{0,8}:\s{0,8}\[\s{0,8}(\d{1,19})\s{0,8},\s{0,8}(\d{1,19})\s{0,8}\])?'
)
_LONGEST_OFFSETS = 128


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """`start` and `end` are offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a header says: `data` is where it ends, `end` where the last tensor does (bytes from the file's
    start).
    """

    data: int
    end: int
    tensors: tuple[TensorSpan, ...]
    metadata: dict[str, str]


def header_length(size: int) -> Steps[int]:
    """The header's length in bytes. Raises Misfit if no safetensors file says so."""
    length = int.from_bytes((yield from need(0, 8)), "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise Misfit(f"a header of {length} bytes")
    return length


def header(size: int, limits: Limits) -> Steps[SafetensorsHeader]:
    """The header of a file of `size` bytes. Raises Misfit if it is none, TooLarge if it lists too much."""
    base = 8 + (yield from header_length(size))
    listing = _Listing(base, limits)
    offset = 8
    while offset < base:
        piece = yield from need(offset, min(base, offset + PIECE))
        offset += len(piece)
        listing.add(piece)
    return listing.end()


class _Listing:
    """Takes a header's JSON apart, entry by entry, as its bytes come."""

    def __init__(self, base: int, limits: Limits) -> None:
        self._base = base
        self._limits = limits
        self._tensors: list[TensorSpan] = []
        self._metadata: dict[str, str] = {}
        self._rest = b""
        self._wanted = 2
        self._opened = self._closed = False

    def add(self, piece: bytes) -> None:
        """The next bytes. Raises Misfit where they cannot be a header's."""
        self._rest += piece
        if len(self._rest) < self._wanted:
            return
        at = 0
        if not self._opened:
            opens = _OPENS.match(self._rest)
            if opens is None:
                raise Misfit("the header is no JSON object")
            self._opened, self._closed, at = True, opens[1] != b"", opens.end()
        while not self._closed and (found := _ENTRY.match(self._rest, at)) is not None:
            at = found.end()
            self._closed = found[2] == b"}"
            self._entry(found[1])
        self._rest = self._rest[at:]
        if self._closed:
            if self._rest.strip():
                raise Misfit("the header goes on behind its end")
            self._rest, self._wanted = b"", 0
        else:
            longest = LONGEST_METADATA if _METADATA.match(self._rest) else LONGEST_ENTRY
            if len(self._rest) > longest:
                raise Misfit("the header is no JSON, or one of its entries is too long")
            # What is not whole is looked at again once twice as much is there.
            self._wanted = len(self._rest) * 2 if len(self._rest) > LONGEST_ENTRY else 0

    def end(self) -> SafetensorsHeader:
        """What was listed. Raises Misfit if the header has not ended."""
        if not self._closed:
            self._wanted = 0
            self.add(b"")
        if not self._closed:
            raise Misfit("the header is no JSON: it does not end")
        last = max((t.end for t in self._tensors), default=self._base)
        return SafetensorsHeader(self._base, last, tuple(self._tensors), self._metadata)

    def _entry(self, text: bytes) -> None:
        is_metadata = _METADATA.match(text) is not None
        if len(text) > LONGEST_ENTRY and not is_metadata:
            raise Misfit("an entry is too long")
        self._limits.take(600 + len(text), steps=4)
        try:
            ((name, entry),) = json.loads(b"{%s}" % text).items()
        except (ValueError, RecursionError) as e:
            raise Misfit(f"the header is no JSON: {e}") from None
        if name == "__metadata__":
            self._metadata.update((k, v) for k, v in entry.items() if isinstance(v, str))
        else:
            self._tensors.append(_tensor(name, entry, self._base))


def _tensor(name: str, entry: object, base: int) -> TensorSpan:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            if len(shape) > MOST_DIMENSIONS:
                raise Misfit(f"a tensor of {len(shape)} dimensions")
            if 0 <= start <= end < 1 << 63 and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in shape):
                return TensorSpan(name, dtype, tuple(shape), base + start, base + end)
    raise Misfit("a tensor without dtype, shape and offsets")


def extent(base: int, starts: list[int] | None = None) -> Steps[int]:
    """Where the last tensor ends (a file's offset) by a header that ends at `base`, without taking it apart.

    Puts into `starts` where tensors begin. Raises Misfit if the header cannot be told so, or lists too much for `starts`.
    """
    end, rest, offset = base, b"", 8
    while offset < base:
        piece = yield from need(offset, min(base, offset + PIECE))
        if b"\0" in piece or (offset == 8 and not _OPENS.match(piece)):
            raise Misfit("the header is no JSON object")
        offset += len(piece)
        data = rest + piece
        # What begins in the last bytes may not be whole: it is looked at with the next piece.
        limit = len(data) - _LONGEST_OFFSETS if offset < base else len(data)
        at = 0
        for found in _OFFSETS.finditer(data):
            if found.start() >= limit:
                break
            at = found.end()
            if found[1] is None:
                raise Misfit("offsets that are no two numbers")
            first, last = int(found[1]), int(found[2])
            end = max(end, base + last)
            if starts is not None and first < last:
                starts.append(base + first)
        if starts is not None and len(starts) > MOST_TENSORS:
            raise Misfit("too many tensors to look for")
        rest = data[max(at, limit, 0) :]
    if not data.rstrip().endswith(b"}"):
        raise Misfit("the header does not end as a JSON object does")
    return end


def advise(size: int) -> Steps[None]:
    """The header; then each tensor whose reading begins."""
    length = yield from header_length(size)
    base = 8 + length
    yield from want([Range(8, 8 + min(length, HEADER_AHEAD))])
    if length > min(size, HEADER_AHEAD):
        return
    starts: list[int] = []
    end = yield from extent(base, starts)
    yield Sparse()
    things = Items(sorted(starts), min(size, end))
    while True:
        read = yield from touched()
        begun = things.begun(read)
        if begun is not None and read.start >= base:
            yield from want([begun])


def complete(size: int) -> Steps[bool | None]:
    """Complete if it is as long as its header says."""
    if size < 8:
        return False
    length = yield from header_length(size)
    if 8 + length > size:
        # A header of another kind of file would hardly begin so.
        return False if size == 8 or (yield from need(8, 9)) == b"{" else None
    return (yield from extent(8 + length)) == size


FORMAT = Format(
    names=re.compile(rb"\.safetensors$", re.IGNORECASE),
    advise=advise,
    complete=complete,
)
