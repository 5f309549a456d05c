"""What a process holds, sampled while it works, and whether that levels off."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tests.lab.processes import descendants

MIB = 1 << 20
LIMITS = {"memory": 1.0 * MIB, "descriptors": 2.0, "threads": 3.0, "children": 1.0}
"""How much the last third of a series may grow at most: bytes, or a count. A pool's connections come and go."""
PER_OPERATION = 32.0
"""Bytes of memory that each operation of the last third may add to that."""


@dataclass(frozen=True, slots=True)
class Usage:
    """After `operations`: bytes of memory that are resident, and counts."""

    operations: int
    memory: int
    descriptors: int
    threads: int
    children: int


def usage(pid: int, operations: int = 0) -> Usage:
    """What a process holds now. Raises OSError when it is not there."""
    place = Path("/proc") / str(pid)
    lines = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
    return Usage(
        operations,
        memory=int(lines["VmRSS"].split()[0]) << 10,
        descriptors=sum(1 for _ in (place / "fd").iterdir()),
        threads=int(lines["Threads"]),
        children=len(descendants(pid)),
    )


@dataclass(frozen=True, slots=True)
class Growth:
    """How one thing grew over the last third of a series, by the median of all slopes (Theil and Sen).

    Memory goes up and down with the garbage collector's rounds: of it, what the lowest level rose by counts if that is less.
    """

    name: str
    first: float
    last: float
    """The medians of the first third and of the last."""
    grown: float
    limit: float

    @property
    def levels_off(self) -> bool:
        return self.grown <= self.limit


def growth(series: Sequence[Usage], per_operation: float = PER_OPERATION) -> list[Growth]:
    """One for each thing that is held. `series` has nine samples at least; `per_operation`: bytes that each may add."""
    assert len(series) >= 9
    third = len(series) // 3
    early, late = series[:third], series[-third:]
    operations = late[-1].operations - late[0].operations
    found = []
    for name, limit in LIMITS.items():
        points = [(sample.operations, getattr(sample, name)) for sample in late]
        slope = statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
        if name == "memory":
            limit += per_operation * operations
        first = statistics.median(getattr(sample, name) for sample in early)
        last = statistics.median(y for _, y in points)
        grown = slope * operations
        if name == "memory":
            before = min(sample.memory for sample in series[third:-third])
            grown = min(grown, min(y for _, y in points) - before)
        found.append(Growth(name, first, last, grown, limit))
    return found


def table(title: str, found: Sequence[Growth]) -> str:
    """Lines for people: one of each thing."""
    lines = []
    for one in found:
        scale, unit = (MIB, " MiB") if one.name == "memory" else (1, "")
        verdict = "" if one.levels_off else "   GROWS"
        lines.append(
            f"{title:<28} {one.name:<12} {one.first / scale:9.1f} → {one.last / scale:7.1f}{unit:<4}"
            f"  last third {one.grown / scale:+8.2f} of {one.limit / scale:.2f}{verdict}"
        )
    return "\n".join(lines)
