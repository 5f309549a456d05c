"""What `artisync inspect` found in a file: a Report, as JSON and as text for people."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from itertools import islice

from vfs.base.printable import printable
from vfs.base.units import elements

LONGEST_CELL = 2000
SHOWN = 60
"""Lines of tensors, tags and values that `render` shows of each; JSON has all."""


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

    `kind` is one of torch, torch-legacy, pickle, npz, zip, safetensors, npy, events, parquet, hdf5. `whole`
    is None where the format does not tell. Sizes in bytes, times in seconds since 1970. `notes` are sentences
    for people.
    """

    name: str
    size: int
    kind: str
    whole: bool | None = None
    tensors: list[TensorInfo] = field(default_factory=list)
    values: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[TagInfo] = field(default_factory=list)
    records: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    first_time: float | None = None
    last_time: float | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """As `json.dumps` takes it, with totals; numbers that JSON has no word for (NaN) as text."""
        told: dict[str, object] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        told["tensors"] = [
            {"name": t.name, "dtype": t.dtype, "shape": t.shape, "nbytes": t.nbytes} for t in self.tensors
        ]
        told["tags"] = [dataclasses.asdict(t) for t in self.tags]
        for key in ("first_time", "last_time"):
            told[key] = _finite(told[key])
        told["values"] = {k: _finite(v) for k, v in self.values.items()}
        told["elements"] = sum(elements(t.shape) for t in self.tensors)
        return told


_TITLES = {
    "torch": "PyTorch checkpoint",
    "torch-legacy": "PyTorch checkpoint of the old kind",
    "pickle": "pickle",
    "npz": "NumPy archive",
    "npy": "NumPy array",
    "zip": "zip archive",
    "events": "TensorBoard events",
    "parquet": "Parquet file",
    "hdf5": "HDF5 file",
}


def render(report: Report) -> str:
    """Plain text, without colours; what the file calls things is shown with control characters escaped."""
    whole = {True: "whole", False: "cut short", None: "cannot tell whether it is whole"}[report.whole]
    title = _TITLES.get(report.kind, report.kind)
    lines = [f"{printable(report.name)}: {title}, {_bytes(report.size)}, {whole}"]
    if report.records is not None:
        lines.append(_span(report))
    if report.tags:
        rows: list[tuple[str, ...]] = [("tag", "kind", "points", "first", "last")]
        rows += [
            (t.tag, t.kind, str(t.count), str(t.first_step), str(t.last_step)) for t in report.tags[:SHOWN]
        ]
        lines += ["", *_table(rows, "tags", len(report.tags), right=(2, 3, 4))]
    if report.tensors:
        total = sum(elements(t.shape) for t in report.tensors)
        count = "1 tensor" if len(report.tensors) == 1 else f"{len(report.tensors):,} tensors"
        lines.append(f"{count}, {total:,} elements, {_bytes(sum(t.nbytes for t in report.tensors))}")
        rows = [("name", "dtype", "shape", "size")]
        rows += [
            (t.name, t.dtype, " × ".join(map(str, t.shape)) or "scalar", _bytes(t.nbytes))
            for t in report.tensors[:SHOWN]
        ]
        lines += ["", *_table(rows, "tensors", len(report.tensors), right=(3,))]
    for title, pairs in (("values", report.values), ("metadata", report.metadata)):
        if pairs:
            rows = [(title, ""), *((k, str(v)) for k, v in islice(pairs.items(), SHOWN))]
            lines += ["", *_table(rows, title, len(pairs))]
    if report.notes:
        lines += ["", *(printable(note) for note in report.notes)]
    return "\n".join(lines)


def _span(report: Report) -> str:
    told = f"{report.records:,} records"
    if report.first_step is not None:
        told += f", steps {report.first_step} to {report.last_step}"
    if report.first_time is not None and report.last_time is not None:
        told += f", {_when(report.first_time)} to {_when(report.last_time)}"
    return told


def _table(rows: list[tuple[str, ...]], what: str, count: int, right: tuple[int, ...] = ()) -> list[str]:
    """Lines of `rows`, the first of them the titles, out of `count`."""
    shown = [tuple(printable(cell[:LONGEST_CELL]) for cell in row) for row in rows]
    widths = [min(80, max(len(row[i]) for row in shown)) for i in range(len(shown[0]))]
    lines = []
    for row in shown:
        sides = zip(row, widths, range(len(row)), strict=True)
        cells = [cell.rjust(width) if i in right else cell.ljust(width) for cell, width, i in sides]
        lines.append("  " + "  ".join(cells).rstrip())
    if count > SHOWN:
        lines.append(f"  … and {count - SHOWN:,} more {what}; --json lists all")
    return lines


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    power = min(6, (count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.1f} {'KMGTPE'[power - 1]}iB" if count < 1 << 80 else "a hostile size"


def _when(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "an impossible time"


def _finite(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
