"""What `artisync inspect` found in a file: a Report, as JSON and as text for people."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from dataclasses import dataclass, field

from vfs.base.columns import cells, lay_out
from vfs.base.printable import printable
from vfs.base.units import count, elements, size

LONGEST_CELL = 2000
LINES = 22
"""Lines of `render`, unless all are asked for: a terminal has 24, and a prompt takes two."""
WIDTH = 80
"""Columns in which the first line is to fit."""
MOST_NOTES = 5


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`nbytes` is what its elements take; 0 where the dtype does not tell."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(slots=True)
class TagInfo:
    """A series of an event file; `kind` is the plugin's name, `scalars` for instance. Steps in the file's
    order.
    """

    tag: str
    kind: str
    count: int
    first_step: int
    last_step: int


@dataclass(slots=True)
class Report:
    """What a file holds.

    `kind` is one of torch, torch-legacy, dcp, dcp-shard, pickle, npz, zip, safetensors, npy, events, parquet, hdf5.
    `complete` is None where the format does not tell. Sizes in bytes, times in seconds since 1970. `notes` are sentences
    for people.
    """

    name: str
    size: int
    kind: str
    complete: bool | None = None
    tensors: list[TensorInfo] = field(default_factory=list)
    values: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[TagInfo] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Of a table: the type of each."""
    rows: int | None = None
    records: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    first_time: float | None = None
    last_time: float | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """As `json.dumps` takes it, with totals; numbers that JSON has no word for (NaN) as text."""
        told: dict[str, object] = _fields(self)
        told["tensors"] = [_fields(tensor) for tensor in self.tensors]
        told["tags"] = [_fields(tag) for tag in self.tags]
        told["whole"] = told.pop("complete")
        for key in ("first_time", "last_time"):
            told[key] = _finite(told[key])
        told["values"] = {k: _finite(v) for k, v in self.values.items()}
        told["elements"] = sum(elements(t.shape) for t in self.tensors)
        return told


def _fields(of: Report | TensorInfo | TagInfo) -> dict[str, object]:
    """Not `dataclasses.asdict`, which copies each number of each shape: a second for some thousands of tensors."""
    return {field.name: getattr(of, field.name) for field in dataclasses.fields(of)}


_TITLES = {
    "torch": "PyTorch checkpoint",
    "torch-legacy": "PyTorch checkpoint (legacy format)",
    "dcp": "PyTorch distributed checkpoint",
    "dcp-shard": "shard of a PyTorch distributed checkpoint",
    "pickle": "pickle",
    "npz": "NumPy archive",
    "npy": "NumPy array",
    "zip": "zip archive",
    "events": "TensorBoard events",
    "parquet": "Parquet file",
    "hdf5": "HDF5 file",
}


def render(report: Report, *, everything: bool = False, width: int | None = None) -> str:
    """Plain text: a summary, then the tensors or tags, some of them or all; on a terminal of `width` columns, or on none.
    Control characters are escaped.
    """
    complete = {True: "complete", False: "cut short", None: "completeness unknown"}[report.complete]
    title = _TITLES.get(report.kind, report.kind)
    name, told = printable(report.name), f"{title}, {size(report.size)}, {complete}"
    lines = [f"{name}: {told}"] if cells(name) + cells(told) <= (width or WIDTH) - 2 else [f"{name}:", told]
    if report.records is not None:
        lines.append(_span(report))
    word = "dataset" if report.kind == "hdf5" else "tensor"
    if report.tensors:
        lines += _totals(report.tensors, word)
    if report.rows is not None:
        lines.append(f"{count(report.rows, 'row')}, {count(len(report.columns), 'column')}")
    values, metadata = ([(k, str(v)) for k, v in pairs.items()] for pairs in (report.values, report.metadata))
    tags = [(t.tag, t.kind, str(t.count), str(t.first_step), str(t.last_step)) for t in report.tags]
    tensors = [(t.name, t.dtype, _shape(t.shape), size(t.nbytes)) for t in report.tensors]
    tables: list[tuple[list[tuple[str, ...]], tuple[int, ...]]] = [
        ([("value", ""), *values], ()),
        ([("metadata", ""), *metadata], ()),
        ([("tag", "kind", "points", "first", "last"), *tags], (2, 3, 4)),
        ([("column", "type"), *report.columns.items()], ()),
        ([(word, "dtype", "shape", "size"), *tensors], (3,)),
    ]
    tables = [(rows, right) for rows, right in tables if len(rows) > 1]
    notes = [printable(note) for note in (report.notes if everything else report.notes[:MOST_NOTES])]
    limits = _limits([len(rows) - 1 for rows, _ in tables], LINES - len(lines) - len(notes) - bool(notes))
    for (rows, right), limit in zip(tables, limits, strict=True):
        lines += _table(rows, None if everything else limit, right, width)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _limits(lengths: list[int], room: int) -> list[int]:
    """How many rows of each table to show within `room` lines: all of a short one, and the others share what is left.

    Each table takes a line before it, one of titles and, if it is cut, one that says how many more there are.
    """
    limits = [0] * len(lengths)
    for done, i in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        share = room // (len(lengths) - done) - 2
        limits[i] = lengths[i] if lengths[i] <= share else max(1, share - 1)
        room -= limits[i] + 2 + (limits[i] < lengths[i])
    return limits


def _totals(tensors: list[TensorInfo], word: str) -> list[str]:
    total = sum(elements(t.shape) for t in tensors)
    told = f"{count(len(tensors), word)}, {total:,} elements, {size(sum(t.nbytes for t in tensors))}"
    dtypes = Counter(t.dtype for t in tensors)
    if len(dtypes) == 1:
        return [f"{told}, {printable(next(iter(dtypes)))}"]
    return [told, "dtypes: " + ", ".join(f"{printable(name)} × {n}" for name, n in dtypes.most_common(8))]


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def _span(report: Report) -> str:
    told = f"{report.records:,} records"
    if report.first_step is not None:
        told += f", steps {report.first_step} to {report.last_step}"
    if report.first_time is not None and report.last_time is not None:
        told += f", {_when(report.first_time)} to {_when(report.last_time)}"
    return told


def _table(
    rows: list[tuple[str, ...]], limit: int | None, right: tuple[int, ...], width: int | None
) -> list[str]:
    """An empty line, and the lines of `rows`, the first of them the titles; at most `limit` below the titles."""
    shown = [tuple(printable(cell[:LONGEST_CELL]) for cell in row) for row in rows[: limit and limit + 1]]
    titles, *laid_out = lay_out(shown, right=right, width=width, indent=2)
    if limit is not None and len(rows) - 1 <= limit < sum(map(len, laid_out)):
        limit -= 1  # for the line that says how many more there are
    lines: list[str] = []
    told = 0
    for row in laid_out:
        if limit is not None and told and len(lines) + len(row) > limit:
            break
        lines += row
        told += 1
    more = len(rows) - 1 - told
    return ["", *titles, *lines, *([f"  … {more:,} more, with --all"] if more else [])]


def _when(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "an impossible time"


def _finite(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
