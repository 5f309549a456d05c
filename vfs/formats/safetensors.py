"""safetensors: a header that lists every tensor, then the tensors' bytes. Usually mapped, tensors read one by
one.

Source: github.com/huggingface/safetensors, README, section Format: a u64 (little-endian) with the length of
the header, at most 100 MB; the header, JSON; the bytes that its `data_offsets` count from the header's end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vfs.formats.api import Format, Misfit, Range, Sparse, Steps, need, touched, want
from vfs.formats.items import Items

LONGEST_HEADER = 100_000_000
HEADER_AHEAD = 8 << 20
"""Bytes of header that are looked into while somebody waits for other reads."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`start` and `end` are offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: `data` is where it ends, `end` where the last tensor does (bytes from the file's
    start).
    """

    data: int
    end: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


def header_length(size: int) -> Steps[int]:
    """The header's length in bytes. Raises Misfit if no safetensors file says so."""
    length = int.from_bytes((yield from need(0, 8)), "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise Misfit(f"a header of {length} bytes")
    return length


def header(size: int, longest: int = LONGEST_HEADER) -> Steps[Header]:
    """The header of a file of `size` bytes. Raises Misfit if it is none, or longer than `longest`."""
    length = yield from header_length(size)
    if length > longest:
        raise Misfit(f"a header of {length} bytes")
    return parse((yield from need(8, 8 + length)))


def parse(data: bytes) -> Header:
    """What the JSON in `data` lists. Raises Misfit."""
    try:
        listed = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Misfit(f"the header is no JSON: {e}") from None
    if not isinstance(listed, dict):
        raise Misfit("the header is no JSON object")
    start = 8 + len(data)
    told = listed.pop("__metadata__", None)
    metadata = {k: v for k, v in told.items() if isinstance(v, str)} if isinstance(told, dict) else {}
    tensors = tuple(_tensor(name, entry, start) for name, entry in listed.items())
    return Header(start, max((t.end for t in tensors), default=start), tensors, metadata)


def _tensor(name: str, entry: object, base: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            if 0 <= start <= end < 1 << 63 and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in shape):
                return Tensor(name, dtype, tuple(shape), base + start, base + end)
    raise Misfit("a tensor without dtype, shape and offsets")


def advise(size: int) -> Steps[None]:
    """The header; then each tensor whose reading begins."""
    length = yield from header_length(size)
    if length > min(size, HEADER_AHEAD):
        yield from want([Range(8, 8 + min(length, HEADER_AHEAD))])
        return
    listed = parse((yield from need(8, 8 + length)))
    yield Sparse()
    starts = sorted(t.start for t in listed.tensors if t.start < t.end)
    things = Items(starts, min(size, listed.end))
    while True:
        read = yield from touched()
        begun = things.begun(read)
        if begun is not None and read.start >= listed.data:
            yield from want([begun])


def complete(size: int) -> Steps[bool | None]:
    """Whole if it is as long as its header says."""
    if size < 8:
        return False
    length = yield from header_length(size)
    if 8 + length > size:
        # A header of another kind of file would hardly begin so.
        return False if size == 8 or (yield from need(8, 9)) == b"{" else None
    return (yield from header(size)).end == size


FORMAT = Format(
    title="safetensors",
    names=re.compile(rb"\.safetensors$", re.IGNORECASE),
    advise=advise,
    complete=complete,
)
