"""Parquet: what a file holds is in its footer, which readers fetch first.

Source: github.com/apache/parquet-format, README, "File Format": the footer, its length as u32
(little-endian), PAR1; and src/main/thrift/parquet.thrift, FileMetaData and SchemaElement.
"""

from __future__ import annotations

import re
from typing import Any

from vfs.formats.api import Format, Misfit, Range, Sparse, Steps, need, want
from vfs.formats.limits import LONGEST_NAME, Limits
from vfs.formats.thrift import Compact

MAGIC = b"PAR1"
TAIL = 64 << 10
"""Bytes that pyarrow reads from the end at first."""

LONGEST_FOOTER = 4 << 20
SCHEMA, ROWS = 2, 3
"""Fields of FileMetaData; later fields are not read."""
_TYPES = ("bool", "int32", "int64", "int96", "float32", "float64", "bytes", "bytes")
_CONVERTED = {0: "string", 1: "map", 3: "list", 4: "enum", 5: "decimal", 6: "date", 7: "time", 8: "time"}
_CONVERTED |= {9: "timestamp", 10: "timestamp", 19: "json"}
_CONVERTED |= {11 + i: name for i, name in enumerate(("uint8", "uint16", "uint32", "uint64"))}
_CONVERTED |= {15: "int8", 16: "int16"}
_LOGICAL = {1: "string", 2: "map", 3: "list", 4: "enum", 5: "decimal", 6: "date", 7: "time", 8: "timestamp"}
_LOGICAL |= {12: "json", 14: "uuid", 15: "float16"}


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
    """Complete if it ends with a footer: it is written last."""
    if size < 12 or (yield from need(0, 4)) != MAGIC:
        return None
    return (yield from footer(size)) is not None


def table(size: int, limits: Limits) -> Steps[tuple[int, dict[str, str]]]:
    """How many rows, and the type of each column by its path. Raises Misfit, TooLarge, RecursionError."""
    found = yield from footer(size)
    if found is None:
        raise Misfit("it has no footer")
    data = yield from need(found.start, min(found.end - 8, found.start + LONGEST_FOOTER))
    told = Compact(data, limits).struct(last=ROWS)
    rows, schema = told.get(ROWS), told.get(SCHEMA)
    if not isinstance(rows, int) or not isinstance(schema, list) or not schema:
        raise Misfit("its footer names no rows or no columns")
    if not all(isinstance(element, dict) and isinstance(element.get(4), bytes) for element in schema):
        raise Misfit("a column in its footer has no name")
    columns: dict[str, str] = {}
    _columns(iter(schema[1:]), "", schema[0].get(5, 0), columns, limits)
    return rows, columns


def _columns(elements: Any, above: str, count: int, columns: dict[str, str], limits: Limits) -> None:
    """Take `count` elements, and what is below each, into `columns`."""
    for _ in range(count):
        element = next(elements, None)
        if element is None:
            raise Misfit("its footer names too few columns")
        path = above + element[4][:LONGEST_NAME].decode(errors="replace")
        limits.take(len(path))
        inner = element.get(5, 0)
        word = _word(element)
        if not inner or word in ("list", "map"):  # a list's inner names are the format's own
            columns[path] = _nested(elements, inner, word, limits) if inner else word
        else:
            _columns(elements, f"{path}.", inner, columns, limits)


def _nested(elements: Any, inner: int, word: str, limits: Limits) -> str:
    """A list or a map with what is in it: "list of float32"."""
    leaves: dict[str, str] = {}
    _columns(elements, "", inner, leaves, limits)
    return f"{word} of {', '.join(leaves.values())}"


def _word(element: dict[int, Any]) -> str:
    logical = next(iter(element.get(10, {})), None)
    word = _LOGICAL.get(logical) if logical is not None else None
    word = word or _CONVERTED.get(element.get(6, -1))
    kind = element.get(1)
    return word or (_TYPES[kind] if kind is not None and 0 <= kind < len(_TYPES) else "group")


FORMAT = Format(
    names=re.compile(rb"\.parquet$", re.IGNORECASE),
    magic=MAGIC,
    advise=advise,
    complete=complete,
)
