"""The progress of a long task: the task counts, a progress bar reads. Plain numbers; any thread may read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Sizes in bytes. `total` is 0 until it is known."""

    total: int = 0
    done: int = 0
    files: int = 0
    files_done: int = 0
    doing: str = ""
    """The file that is worked on, for people."""
