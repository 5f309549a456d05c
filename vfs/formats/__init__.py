"""What files say of themselves: the ranges that will be read next, whether they are complete, how they grow.

Names are the last component of a path. Pure: no I/O, no clock, no state but an Advisor's. Wrong or hostile bytes give no
hint and no error. How to add a format: docs/formats.md.
"""

from __future__ import annotations

import re

from vfs.formats import events, hdf5, npy, parquet, safetensors, small_files, zips
from vfs.formats.advisor import Advisor as Advisor
from vfs.formats.advisor import Verdict
from vfs.formats.api import Format, Steps, need, touched
from vfs.formats.api import Range as Range

FORMATS: tuple[Format, ...] = (
    zips.FORMAT,
    safetensors.FORMAT,
    events.FORMAT,
    npy.FORMAT,
    parquet.FORMAT,
    hdf5.FORMAT,
    small_files.FORMAT,
)

SMALLEST = 64 << 10
"""Bytes. Smaller files come with the first read anyway, whatever they are."""

_APPENDED = re.compile(rb"\.tfevents\.|\.(log|jsonl|csv|out|txt)$", re.IGNORECASE)


def format_by_name(name: bytes) -> Format | None:
    """The format of files called `name`, if the name tells."""
    for one in FORMATS:
        if one.names is not None and one.names.search(name):
            return one
    return None


def format_by_head(head: bytes) -> Format | None:
    """The format of files that begin with `head` (16 bytes are enough), if that tells."""
    for one in FORMATS:
        if one.magic and head.startswith(one.magic):
            return one
    return None


def advisor_for(name: bytes, size: int) -> Advisor | None:
    """The advisor for a file called `name`, of `size` bytes, that is being opened; None: there is none.

    A file whose name does not tell its format is recognised by its first bytes, once they are known.
    """
    if size < SMALLEST:
        return None
    known = format_by_name(name)
    if known is None:
        return None if append_only(name) else Advisor(_sniff(size), size)
    return Advisor(known.advise(size), size) if known.advise is not None else None


def is_events(name: bytes) -> bool:
    """Whether a file of that name is one of TensorBoard's event files."""
    return format_by_name(name) is events.FORMAT


def mapped(name: bytes) -> bool:
    """Whether programs usually map such a file: then the kernel's first 128 KiB do not promise that the rest is read."""
    return format_by_name(name) in (safetensors.FORMAT, npy.FORMAT)


def _sniff(size: int) -> Steps[None]:
    """Wait for a read of the head; then go on as the format that the first bytes show."""
    for _ in range(4):
        read = yield from touched()
        if read.start < 16:
            found = format_by_head((yield from need(0, 16)))
            if found is not None and found.advise is not None:
                yield from found.advise(size)
            return


def verdict_for(name: bytes, size: int) -> Verdict:
    """What finds out whether a file called `name`, of `size` bytes, is complete, as far as its format tells."""
    found = format_by_name(name)
    return Verdict(found.complete(size) if found is not None and found.complete is not None else None, size)


def append_only(name: bytes) -> bool:
    """Whether files called `name` are only ever appended to, so that what was read of one stays right."""
    return _APPENDED.search(name) is not None
