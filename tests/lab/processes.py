"""What /proc says of processes: who is below whom, and the processor time and memory that they took."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, as they are now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that the processes took so far, user and system; those that have ended count nothing."""
    total = 0
    for pid in pids:
        try:
            words = _stat(pid)
        except OSError:
            continue
        total += int(words[11]) + int(words[12])
    return total / _TICKS


def peak_resident(pids: Iterable[int]) -> int:
    """Bytes: the sum of each process's largest resident set so far."""
    total = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10
    return total


def _stat(pid: int) -> list[str]:
    """The words of proc(5)'s stat from the state on; the name in parentheses before it may hold anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
