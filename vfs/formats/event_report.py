"""What a TensorBoard event file holds: its tags, steps and times, read from the first record to the last. Any thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

from vfs.formats import events
from vfs.formats.api import Misfit
from vfs.formats.limits import Limits, TooLarge
from vfs.formats.report import Report, TagInfo

Get: TypeAlias = Callable[[int, int], bytes]
"""The bytes at an offset, of some length; fewer only at the end of the file."""

LARGE_RECORD = 1 << 20
"""Bytes. Of larger records (images, mostly) only the beginning is read."""


def look(report: Report, get: Get, limits: Limits) -> None:
    """Describe all records, as far as the limits allow. Raises Misfit if the file does not begin with one."""
    report.kind = "events"
    report.complete = True
    report.records = 0
    tags: dict[str, TagInfo] = {}
    offset = 0
    while offset < report.size:
        try:
            limits.take(steps=10)
        except TooLarge:
            _stopped(report, offset)
            break
        try:
            length = events.record_length(get(offset, events.HEAD.size))
        except Misfit:
            if offset == 0 and report.size >= events.HEAD.size:
                raise
            length = -1 if report.size - offset >= events.HEAD.size else report.size
        end = offset + events.HEAD.size + length + events.FOOT
        if length < 0 or end > report.size:
            report.complete = False
            cut = "Cut in the middle of a record (a live run may be writing it now)"
            report.notes.append(f"{'Damaged' if length < 0 else cut}, at byte {offset}.")
            break
        body = get(offset + events.HEAD.size, length if length <= LARGE_RECORD else LARGE_RECORD // 16)
        if end == report.size and length <= LARGE_RECORD // 16:
            foot = get(end - events.FOOT, events.FOOT)
            if int.from_bytes(foot, "little") != events.masked_crc(body):
                report.complete = False
                report.notes.append(f"The last record, at byte {offset}, is damaged.")
                break
        try:
            _count(report, tags, body, limits)
        except TooLarge:
            _stopped(report, offset)
            break
        report.records += 1
        offset = end
    report.tags = list(tags.values())


def _stopped(report: Report, offset: int) -> None:
    report.complete = None
    report.notes.append(f"It is too large to inspect in full; what comes after byte {offset} was not read.")


def _count(report: Report, tags: dict[str, TagInfo], body: bytes, limits: Limits) -> None:
    wall_time, step, values = events.event(body, limits)
    if report.first_time is None:
        report.first_time = wall_time
    report.last_time = wall_time
    if values:
        report.first_step = step if report.first_step is None else report.first_step
        report.last_step = step
    for tag, kind in values:
        known = tags.get(tag)
        if known is not None:
            known.count += 1
            known.last_step = step
            known.kind = known.kind or kind
        else:
            limits.take(sys.getsizeof(tag) + 400)
            tags[tag] = TagInfo(tag, kind, 1, step, step)
