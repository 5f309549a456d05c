"""Numbers as people read them. Pure, but for the date of something long ago."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date

MOST_ELEMENTS = 1 << 63
DATED = 30 * 86400


def size(count: float) -> str:
    """1610612736 → "1.5 GiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"


def rate(bytes_per_second: float) -> str:
    """12300000 → "11.7 MiB/s"."""
    return f"{size(bytes_per_second)}/s"


def count(number: int, one: str, many: str | None = None) -> str:
    """(1, "file") → "1 file", (3000, "file") → "3,000 files"; `many` where the plural is another: (3, "entry", "entries")."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """190 → "3 min", 7500 → "2 h 5 min"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(seconds: float) -> str:
    """190 → "3 min ago", and the date after `DATED` seconds; less than two seconds, and the future, are "just now"."""
    if seconds >= DATED:
        return date.fromtimestamp(time.time() - seconds).isoformat()
    return "just now" if seconds < 2 else f"{duration(seconds)} ago"


def elements(shape: Iterable[int]) -> int:
    """The product of the dimensions, at most MOST_ELEMENTS: no file holds as many."""
    count = 1
    for n in (sizes := tuple(shape)):
        count *= n
        if count > MOST_ELEMENTS:
            return 0 if 0 in sizes else MOST_ELEMENTS
    return count
