"""A small stack of Python's: what recurses meets its end within few levels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FRAMES = 300
"""The greatest depth of calls; pytest and an event loop take some eighty of them."""


@contextmanager
def small_stack() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(FRAMES)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
