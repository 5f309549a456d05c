"""A progress bar on stderr: bytes, speed, time left. Nothing is drawn where stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfs.base.printable import printable
from vfs.base.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL = 0.1
"""Seconds between two looks."""


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Draw how far it is, for the time of the block. A thread of its own looks at the numbers."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    with _bar() as bar:
        drawing = threading.Thread(target=_draw, args=(bar, progress, over), daemon=True)
        drawing.start()
        try:
            yield
        finally:
            over.set()
            drawing.join()


def _bar() -> Bar:
    from rich import progress as rich
    from rich.console import Console

    return rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(binary_units=True),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _draw(bar: Bar, progress: Progress, over: threading.Event) -> None:
    task = bar.add_task("", total=None)
    while not over.wait(INTERVAL):
        count = f"{progress.files_done}/{progress.files} " if progress.files else ""
        name = printable(progress.doing)
        shortened = name if len(name) <= 40 else f"…{name[-39:]}"
        bar.update(
            task, total=progress.total or None, completed=progress.done, description=f"{count}{shortened}"
        )
