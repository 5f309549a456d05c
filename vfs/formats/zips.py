"""Zip archives, and PyTorch's checkpoints, which are zips: where the directory is, what it lists, what is
read next.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16
(ends) and 4.5.3 (the zip64 extra field). `torch.load` reads the head, the end, the directory, some small
records and the pickle; then plain: the records front to back (readahead's job); with `mmap=True`: the local
header of every record, one after the other, 4 KiB each (Python's buffer), and tensors by page faults.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vfs.formats.api import PAGE, PIECE, Format, Misfit, Range, Sparse, Steps, need, touched, want
from vfs.formats.items import Items
from vfs.formats.limits import Limits

END = struct.Struct("<4s4HLLH")
END_MAGIC = b"PK\x05\x06"
LOCATOR = struct.Struct("<4sLQL")
LOCATOR_MAGIC = b"PK\x06\x07"
END64 = struct.Struct("<4sQ2H2L4Q")
END64_MAGIC = b"PK\x06\x06"
ENTRY = struct.Struct("<4s6xH8xLLHHH8xL")
ENTRY_MAGIC = b"PK\x01\x02"
LOCAL = struct.Struct("<4s2xHH4x4xLLHH")
LOCAL_MAGIC = b"PK\x03\x04"

LONGEST_END = END.size + 0xFFFF
"""The end record and the longest comment behind it."""

MOST_ENTRIES = 20_000
LARGEST_DIRECTORY = 4 << 20
LARGEST_PICKLE = 4 << 20
SMALL = 64 << 10
FIRST_MEMBERS = 2_000
"""Members of a checkpoint that are looked at for its pickle and its small records, beside the last ones."""
FIRST_HEADERS = 16
HEADERS_AT_ONCE = 500
BUFFER = 4096
"""Bytes that a Python file object reads for a local header's 30."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the directory is. `shift`: bytes before the archive; its own offsets do not count them."""

    start: int
    end: int
    shift: int


class Member(NamedTuple):
    """A member: `header` is its local header's offset, `packed` and `size` its bytes in the archive and
    unpacked.
    """

    name: bytes
    header: int
    packed: int
    size: int
    method: int


def find_directory(size: int, reach: int = LONGEST_END) -> Steps[Directory]:
    """Where the directory of an archive of `size` bytes lies, from its last `reach` bytes.

    Raises Misfit if there is no end record where `size` says: cut short, or no zip.
    """
    start = max(0, size - reach) // PAGE * PAGE
    tail = yield from need(start, size)
    at = len(tail)
    while True:
        at = tail.rfind(END_MAGIC, 0, min(len(tail), at + len(END_MAGIC) - 1))
        if at < 0 or size - start - at > LONGEST_END:
            raise Misfit("no end record")
        if at + END.size <= len(tail) and at + END.size + END.unpack_from(tail, at)[7] == len(tail):
            break
    *_, length, offset, _ = END.unpack_from(tail, at)
    end = start + at
    if at >= LOCATOR.size and tail.startswith(LOCATOR_MAGIC, at - LOCATOR.size):
        beside = at - LOCATOR.size - END64.size
        by_offset = LOCATOR.unpack_from(tail, at - LOCATOR.size)[2] - start
        for at64 in (beside, by_offset):
            if 0 <= at64 <= len(tail) - END64.size and tail.startswith(END64_MAGIC, at64):
                *_, length, offset = END64.unpack_from(tail, at64)
                end = start + at64
                break
        else:
            raise Misfit("no zip64 end record")
    shift = end - length - offset
    if shift < 0:
        raise Misfit("the directory would begin before the file")
    return Directory(end - length, end, shift)


def listing(where: Directory, most: int, limits: Limits) -> Steps[list[Member]]:
    """The first `most` members of a directory, read in pieces. Raises Misfit and TooLarge."""
    listed: list[Member] = []
    rest = b""
    offset = where.start
    while offset < where.end:
        piece = yield from need(offset, min(where.end, offset + PIECE))
        offset += len(piece)
        data = rest + piece
        at = 0
        while (found := _entry(data, at, where.shift)) is not None:
            entry, at = found
            limits.take(400 + 3 * len(entry.name), steps=3)
            listed.append(entry)
            if len(listed) == most:
                return listed
        rest = data[at:]
    if rest:
        raise Misfit("the directory ends within an entry")
    return listed


def _entry(data: bytes, at: int, shift: int) -> tuple[Member, int] | None:
    """The entry at `at`, and where the next one begins; None if `data` ends before."""
    if len(data) - at < ENTRY.size:
        return None
    magic, method, packed, size, named, extra, comment, header = ENTRY.unpack_from(data, at)
    if magic != ENTRY_MAGIC:
        raise Misfit("no directory entry")
    at += ENTRY.size
    end = at + named + extra + comment
    if end > len(data):
        return None
    if 0xFFFFFFFF in (packed, size, header):
        size, packed, header = _large(data[at + named : at + named + extra], size, packed, header)
    return Member(data[at : at + named], header + shift, packed, size, method), end


def _large(extra: bytes, *fields: int) -> Iterator[int]:
    """The fields, with those that did not fit 32 bits taken from the zip64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return (next(values, 0) if field == 0xFFFFFFFF else field for field in fields)
        at += 4 + length
    return iter(fields)


def data_offset(entry: Member) -> Steps[int]:
    """Where the bytes of `entry` begin. Raises Misfit if there is no local header."""
    header = yield from need(entry.header, entry.header + LOCAL.size)
    magic, _, _, _, _, named, extra = LOCAL.unpack(header)
    if magic != LOCAL_MAGIC:
        raise Misfit("no local header where the directory says")
    return entry.header + LOCAL.size + int(named) + int(extra)


def advise(size: int) -> Steps[None]:
    """The end and the directory; of a checkpoint the pickle and the small records, then what `_walk` sees."""
    if size < END.size:
        return
    # The directory of a checkpoint takes about a thousandth of it.
    where = yield from find_directory(size, min(max(LONGEST_END, size >> 10), 1 << 20))
    if where.end - where.start > LARGEST_DIRECTORY:
        return
    yield from want([Range(where.start, where.end)])
    listed = yield from listing(where, MOST_ENTRIES, Limits())
    listed.sort(key=lambda entry: entry.header)
    if not listed or listed[-1].header >= where.start:
        return
    things = Items([entry.header for entry in listed], where.start)
    pickled = any(entry.name.endswith(b"data.pkl") for entry in listed)
    if pickled:
        yield from want(_first(listed, things))
    yield from _walk(listed, things, pickled)


def _first(listed: list[Member], things: Items) -> list[Range]:
    """The pickle, the small records beside it, and the first headers, by which a walk is recognized."""
    ranges = []
    data = 0
    # The pickle comes first and the version last; between them lie the tensors, thousands of them perhaps.
    for i in (
        *range(min(len(listed), FIRST_MEMBERS)),
        *range(max(FIRST_MEMBERS, len(listed) - 64), len(listed)),
    ):
        entry, whole = listed[i], things.range(i)
        if entry.name.endswith(b"data.pkl"):
            ranges.append(Range(whole.start, min(whole.end, whole.start + LARGEST_PICKLE)))
        elif re.search(rb"(^|/)data/\d+$", entry.name):
            data += 1
            if data <= FIRST_HEADERS:
                ranges.append(_header(entry))
        elif len(whole) <= SMALL:
            ranges.append(whole)
    return ranges[:256]


def _header(entry: Member) -> Range:
    return Range(entry.header, entry.header + BUFFER)


def _walk(listed: list[Member], things: Items, pickled: bool) -> Steps[None]:
    """Members whose reading begins; and all headers, once some were read in order without what is between
    them.
    """
    skipped = 0
    walking = False
    last, apart = -1, True
    while True:
        read = yield from touched()
        i = things.at(max(read.start, min(read.start + PAGE, read.end) - 1))
        lead = _header(listed[i]).pages(things.range(len(listed) - 1).end) if i >= 0 else Range(0, 0)
        if pickled and i >= 0 and lead.start <= read.start and read.end <= lead.end < things.range(i).end:
            if i == last:
                continue
            skipped = skipped + 1 if apart and last < i <= last + 4 else 0
            last, apart = i, True
            if skipped >= 2 and not walking:
                walking = True
                yield Sparse()
                for first in range(i, len(listed), HEADERS_AT_ONCE):
                    yield from want(_header(entry) for entry in listed[first : first + HEADERS_AT_ONCE])
            continue
        apart = False
        begun = things.begun(read)
        if begun is None or (pickled and read.end <= _header(listed[things.at(read.end)]).end):
            continue  # the end of what was read before, and a bit of a header
        yield from want([begun])


def complete(size: int) -> Steps[bool | None]:
    """Complete if the end record is where the size says and points to a directory before it."""
    if size < END.size:
        return False
    for reach in (PAGE, LONGEST_END):
        try:
            where = yield from find_directory(size, reach)
        except Misfit:
            continue
        if where.start == where.end:
            return True
        return (yield from need(where.start, where.start + 4)) == ENTRY_MAGIC
    # Without an end it may be a checkpoint of the old kind, which is no zip.
    return False if (yield from need(0, 4)) == LOCAL_MAGIC else None


FORMAT = Format(
    names=re.compile(rb"\.(pt|pth|ckpt|npz|zip)$", re.IGNORECASE),
    magic=LOCAL_MAGIC,
    advise=advise,
    complete=complete,
)
