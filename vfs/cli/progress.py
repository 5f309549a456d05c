"""A progress bar on stderr: bytes, speed, time left. Nothing is drawn where stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from vfs.base.printable import printable
from vfs.base.progress import Progress
from vfs.cli.console import rate

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar

INTERVAL = 0.1
"""Seconds between two looks."""
NUMBERS = 38
"""Columns of the sizes, the speed, the time left, and the spaces between."""


@contextlib.contextmanager
def shown(progress: Progress, resting: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Draw one line with the progress while the block runs; in place of it `resting`, while that is not empty.

    Both are looked at by a thread.
    """
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    with _bar(resting) as bar:
        drawing = threading.Thread(target=_draw, args=(bar, progress, over, bar.console.width), daemon=True)
        drawing.start()
        try:
            yield
        finally:
            over.set()
            drawing.join()


def _bar(resting: Callable[[], str]) -> Bar:
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    class Line(rich.Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            text = resting()
            if text:
                return [Text(printable(text), no_wrap=True, overflow="ellipsis")]
            return super().get_renderables()

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(rate(task.speed) if task.speed else "")

    console = Console(stderr=True)
    return Line(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(_bar_width(console.width)),
        rich.DownloadColumn(binary_units=True),
        Rate(),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _bar_width(width: int) -> int:
    return max(5, min(40, (width - NUMBERS) // 4))


def _draw(bar: Bar, progress: Progress, over: threading.Event, width: int = 80) -> None:
    task = bar.add_task("", total=None)
    while not over.wait(INTERVAL):
        count = f"{progress.files_done}/{progress.files} " if progress.files else ""
        name = printable(progress.doing)
        room = max(8, width - NUMBERS - _bar_width(width) - len(count))
        shortened = name if len(name) <= room else f"…{name[1 - room :]}"
        bar.update(
            task,
            total=progress.total or None,
            completed=progress.done,
            description=f"{count}{shortened}",
        )
