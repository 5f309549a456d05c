"""Which of several files there is room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def fitting(items: Sequence[T], size: Callable[[T], int], room: int) -> tuple[list[T], list[T]]:
    """The items that fit into `room` bytes together, small ones first, and the others; both in the order of `items`."""
    fit = set()
    for at in sorted(range(len(items)), key=lambda at: size(items[at])):
        room -= size(items[at])
        if room < 0:
            break
        fit.add(at)
    others = [item for at, item in enumerate(items) if at not in fit]
    return [item for at, item in enumerate(items) if at in fit], others
