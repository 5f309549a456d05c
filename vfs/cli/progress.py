"""A progress bar on stderr: bytes, speed, time left. Nothing is drawn where stderr is not a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vfs.base.printable import printable
from vfs.base.progress import Progress
from vfs.cli.console import draws, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

NUMBERS = 38
"""Columns of the sizes, the speed, the time left, and the spaces between."""


def shown(
    progress: Progress, resting: Callable[[], str] = lambda: ""
) -> contextlib.AbstractContextManager[object]:
    """Draw one line with the progress in the block; in place of it `resting`, while that is not empty.

    Both are looked at by a thread.
    """
    if not draws(sys.stderr):
        return contextlib.nullcontext()
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)

    class Line(rich.Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            text = resting()
            if text:
                return [Text(printable(text), no_wrap=True, overflow="ellipsis")]
            for task in self.task_ids:
                total = progress.total or None
                words = description(progress, console.width)
                self.update(task, total=total, completed=progress.done, description=words)
            return super().get_renderables()

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(rate(task.speed) if task.speed else "")

    line = Line(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(_bar_width(console.width)),
        rich.DownloadColumn(binary_units=True),
        Rate(),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # it may be a file; what is printed there comes after the line is gone
    )
    line.add_task("", total=None)
    return line


def _bar_width(width: int) -> int:
    return max(5, min(40, (width - NUMBERS) // 4))


def description(progress: Progress, width: int) -> str:
    """The text before the bar on a terminal of `width` columns."""
    count = f"{progress.files_done}/{progress.files} " if progress.files else ""
    name = printable(progress.doing)
    room = max(8, width - NUMBERS - _bar_width(width) - len(count))
    return count + (name if len(name) <= room else f"…{name[1 - room :]}")
