"""Parquet: what a file holds is in its footer, which readers fetch first.

Source: github.com/apache/parquet-format, README, "File Format": the footer, its length as u32
(little-endian), PAR1.
"""

from __future__ import annotations

import re

from vfs.formats.api import Format, Range, Sparse, Steps, need, want

MAGIC = b"PAR1"
TAIL = 64 << 10
"""Bytes that pyarrow reads from the end at first."""

LONGEST_FOOTER = 4 << 20


def footer(size: int) -> Steps[Range | None]:
    """Where the footer lies; None if the file does not end as a Parquet file does."""
    tail = yield from need(size - 8, size)
    length = int.from_bytes(tail[:4], "little")
    return Range(size - 8 - length, size) if tail[4:] == MAGIC and length <= size - 12 else None


def advise(size: int) -> Steps[None]:
    """The end, and all of the footer if it is longer."""
    if size < 12:
        return
    yield from want([Range(size - TAIL, size)])
    found = yield from footer(size)
    if found is not None:
        yield Sparse()
        if TAIL < len(found) <= LONGEST_FOOTER:
            yield from want([found])


def complete(size: int) -> Steps[bool | None]:
    """Whole if it ends with a footer: it is written last."""
    if size < 12 or (yield from need(0, 4)) != MAGIC:
        return None
    return (yield from footer(size)) is not None


FORMAT = Format(
    title="parquet",
    names=re.compile(rb"\.parquet$", re.IGNORECASE),
    magic=MAGIC,
    advise=advise,
    complete=complete,
)
