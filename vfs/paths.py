"""Directories of this machine that are there or not. Any thread."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path


def existing(path: Path) -> Path:
    """The absolute path, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def missing(path: Path) -> list[Path]:
    """Those of the absolute path and the directories above it that are not there, the innermost first."""
    return list(itertools.takewhile(lambda place: not os.path.lexists(place), (path, *path.parents)))


def remove(directories: Iterable[Path]) -> None:
    """Undo the making of these, the innermost first; what is in use by then, and what is above it, stays."""
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()
