"""A small stack of Python's: what recurses meets its end within few levels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FRAMES = 300
"""Calls within each other, of which pytest and an event loop take some eighty."""


@contextmanager
def small_stack() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(FRAMES)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
