"""Sizes and durations as people write them. Pure; `units` is the other way round."""

from __future__ import annotations

import math
import re

from vfs.base.errors import UsageError

_UNITS = {"b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS |= dict.fromkeys((_letter, f"{_letter}i", f"{_letter}ib"), 1024**_power)
    _UNITS[f"{_letter}b"] = 1000**_power
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of "20GiB", "500 MB" or "1.5G" (K, M, G and T alone are powers of 1024).

    Raises `errors.UsageError` for anything else, for a number alone, and for nothing at all ("0B").
    """
    found = _QUANTITY.fullmatch(text)
    if found and not found[2]:
        raise UsageError(f"{text!r} has no unit; write it like 20GiB, 500MB or 1.5GiB")
    factor = _UNITS.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise UsageError(f"{text!r} is not a size; write it like 20GiB, 500MB or 1.5GiB")
    size = float(found[1]) * factor
    if not 1 <= size < math.inf:
        raise UsageError(f"{text!r} is not a size that can be used; write it like 20GiB, 500MB or 1.5GiB")
    return int(size)


def parse_duration(text: str) -> float:
    """Seconds of "30", "2.5s", "500ms", "5min", "1h" or "3d". Raises `errors.UsageError`."""
    found = _QUANTITY.fullmatch(text)
    factor = _SECONDS.get(found[2].lower()) if found else None
    if found is None or factor is None or not math.isfinite(seconds := float(found[1]) * factor):
        raise UsageError(f"{text!r} is not a duration; write it like 30s, 500ms or 5min")
    return seconds
