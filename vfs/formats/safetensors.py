"""safetensors: a header that lists every tensor, then the tensors' bytes. Usually mapped, tensors read one by
one.

Source: github.com/huggingface/safetensors, README, section Format: a u64 (little-endian) with the length of
the header, at most 100 MB; the header, JSON; the bytes that its `data_offsets` count from the header's end.
Hints and completeness need only its offsets, which are looked for in pieces, so that neither memory nor a step of the event loop
grows with it; `inspect` takes it whole, within its limits.
"""

from __future__ import annotations

import json
import re

from vfs.formats.api import PIECE, Format, Misfit, Range, Sparse, Steps, need, touched, want
from vfs.formats.items import Items
from vfs.formats.limits import MOST_DIMENSIONS, Limits
from vfs.formats.report import TensorInfo

LONGEST_HEADER = 100_000_000
HEADER_AHEAD = 8 << 20
"""Bytes of header that are fetched ahead."""
MOST_TENSORS = 20_000
"""Tensors that are looked for while a file is read; more are left to readahead."""

_OPENS = re.compile(rb"[ \t\r\n]*+\{")
_OFFSETS = re.compile(
    rb'"data_offsets"(?:\s{0,8}:\s{0,8}\[\s{0,8}(\d{1,19})\s{0,8},\s{0,8}(\d{1,19})\s{0,8}\])?'
)
_LONGEST_OFFSETS = 128

_COSTS = {b"{": 250, b"[": 100, b",": 40, b'"': 30}
"""Bytes of memory for each of these characters of JSON, at most."""

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}
"""PyTorch's names of the dtypes."""


def header_length(size: int) -> Steps[int]:
    """The header's length in bytes. Raises Misfit if no safetensors file says so."""
    length = int.from_bytes((yield from need(0, 8)), "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise Misfit(f"a header of {length} bytes")
    return length


def header(size: int, limits: Limits) -> Steps[tuple[list[TensorInfo], dict[str, str], int]]:
    """The tensors, the metadata, and where the last tensor ends. Raises Misfit if it is no header, TooLarge."""
    base = 8 + (yield from header_length(size))
    limits.take(8 * base)  # one character outside of ASCII makes four bytes of each
    text = yield from need(8, base)
    limits.take(sum(cost * text.count(mark) for mark, cost in _COSTS.items()))
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Misfit(f"the header is no JSON: {e}") from None
    if not isinstance(entries, dict):
        raise Misfit("the header is no JSON object")
    about = entries.pop("__metadata__", None)
    metadata = {k: v for k, v in about.items() if isinstance(v, str)} if isinstance(about, dict) else {}
    tensors, end = [], base
    for name, entry in entries.items():
        limits.take(steps=4)
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if (
                0 <= start <= stop < 1 << 63 and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in shape)
            ):
                if len(shape) > MOST_DIMENSIONS:
                    raise Misfit(f"a tensor of {len(shape)} dimensions")
                tensors.append(TensorInfo(name, DTYPES.get(dtype, dtype), tuple(shape), stop - start))
                end = max(end, base + stop)
            case _:
                raise Misfit("a tensor without dtype, shape and offsets")
    return tensors, metadata, end


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
