"""What a checkpoint or an event file holds, without fetching its data and without running a pickle.

`read(offset, length)` gives the bytes at once (fewer only at the end of the file) and is called a handful of
times, but for event files, which are read through. Whatever the file says, it takes at most two seconds of processor
time and 256 MiB of memory; event files and zip archives are described as far as that goes. Any thread.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from vfs.base.errors import UnreadableFormat
from vfs.formats import (
    dcp,
    event_report,
    events,
    format_by_head,
    format_by_name,
    hdf5,
    hdf5_tree,
    npy,
    parquet,
    safetensors,
    zips,
)
from vfs.formats.advisor import UNFIT, run
from vfs.formats.api import Format, Misfit
from vfs.formats.checkpoints import LEGACY_MAGIC, legacy, outline
from vfs.formats.limits import LONGEST_NAME, Limits, TooLarge
from vfs.formats.pickles import Stream, load
from vfs.formats.rebuild import rebuild
from vfs.formats.report import Report, TensorInfo

Read: TypeAlias = Callable[[int, int], bytes]
Look: TypeAlias = "Callable[[Report, Read, Limits], None]"

LARGEST_DIRECTORY = 64 << 20
MOST_MEMBERS = 100_000
MOST_SHOWN = 10_000
CHUNK = 1 << 20


def inspect_file(name: bytes, size: int, read: Read, beside: dcp.Beside = lambda name: None) -> Report:
    """Look into a file of `size` bytes, called `name`; `beside` opens others of its directory.

    A file that is cut short or damaged gives a Report that says so, as far as its kind can still be told.
    Raises UnreadableFormat where it cannot, and whatever `read` raises.
    """
    shown = name.decode(errors="surrogateescape")

    def bounded(offset: int, length: int) -> bytes:
        length = min(length, size - offset)
        return read(offset, length) if offset >= 0 and length > 0 else b""

    report = Report(shown, size, "")
    limits = Limits(time.thread_time)
    try:
        if name == os.fsencode(dcp.METADATA):
            dcp.look_at_metadata(report, bounded, limits, beside)
        elif name.endswith(os.fsencode(dcp.SHARD)):
            dcp.look_at_shard(report, bounded, limits, beside)
        else:
            _kind(name, bounded(0, 16))(report, bounded, limits)
    except TooLarge as e:
        raise UnreadableFormat(f"{shown!r} is too large to inspect: {e}") from None
    except UNFIT as e:
        raise UnreadableFormat(f"{shown!r}: {e}") from None
    return report


def _kind(name: bytes, head: bytes) -> Look:
    """What describes a file. Its first bytes count more than its name."""
    looks: dict[Format | None, Look] = {
        zips.FORMAT: _zip,
        npy.FORMAT: _npy,
        parquet.FORMAT: _parquet,
        hdf5.FORMAT: _hdf5,
    }
    by_head = format_by_head(head)
    if by_head in looks:
        return looks[by_head]
    if head.startswith(LEGACY_MAGIC):
        return _legacy
    by_name = format_by_name(name)
    if by_name is events.FORMAT or (len(head) > 11 and events.is_record(head[: events.HEAD.size])):
        return _events
    if by_name is safetensors.FORMAT or head[8:9] == b"{":
        return _safetensors
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return _pickle
    if by_name is zips.FORMAT and head.startswith(zips.END_MAGIC):
        return _zip
    raise Misfit("the file is empty" if not head else "unknown file type")


def _complete(one: Format, size: int, read: Read) -> bool | None:
    try:
        return run(one.complete(size), read) if one.complete is not None else None
    except UNFIT:
        return None


# --- zip, PyTorch, NumPy ------------------------------------------------------------------------------------------


def _zip(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "zip"
    report.complete = _complete(zips.FORMAT, report.size, read)
    try:
        where = run(zips.find_directory(report.size), read)
    except Misfit:
        _cut_short(report, read, limits)
        return
    if where.end - where.start > LARGEST_DIRECTORY:
        raise Misfit(f"its directory has {where.end - where.start} bytes")
    members = run(zips.listing(where, MOST_MEMBERS, limits), read)
    if len(members) == MOST_MEMBERS:
        report.notes.append(f"Only the first {MOST_MEMBERS} members are listed.")
    if where.shift:
        report.notes.append(f"The archive begins at byte {where.shift}; what is before it is not listed.")
    pickled = next((m for m in members if m.name.rpartition(b"/")[2] == b"data.pkl"), None)
    if pickled is not None:
        _torch(report, read, pickled, members, limits)
    elif any(m.name.endswith(b".npy") for m in members):
        _npz(report, read, members, limits)
    else:
        for member in members[:MOST_SHOWN]:
            report.values[_name(member.name)] = member.size
        total = sum(member.size for member in members)
        report.notes.append(f"{len(members)} members, {total} bytes unpacked.")


def _torch(
    report: Report, read: Read, pickled: zips.Member, members: list[zips.Member], limits: Limits
) -> None:
    report.kind = "torch"
    if pickled.method != 0:
        raise Misfit("its pickle is compressed, which PyTorch never does")
    start = run(zips.data_offset(pickled), read)
    stored = outline(report, load(Stream(read, start, start + pickled.packed), rebuild, limits), limits)
    folder = pickled.name[: -len(b"data.pkl")] + b"data/"
    sizes = {m.name[len(folder) :]: m.size for m in members if m.name.startswith(folder)}
    missing = [k for k, size in stored.items() if sizes.get(k.encode(errors="replace"), -1) < size]
    if missing and len(members) < MOST_MEMBERS:
        report.complete = False
        first = f"{missing[0]!r} first"
        report.notes.append(f"The bytes of {len(missing)} storages are missing or too few ({first}).")


def _cut_short(report: Report, read: Read, limits: Limits) -> None:
    """An archive without its end. PyTorch writes the pickle first, so the tensors can be listed all the same."""
    report.complete = False
    report.notes.append("The archive has no end: it is being written, or was cut short.")
    head = read(0, zips.LOCAL.size)
    if len(head) < zips.LOCAL.size:
        return
    _, flags, method, _, _, named, extra = zips.LOCAL.unpack(head)
    name = read(zips.LOCAL.size, named)
    if not name.endswith(b"data.pkl") or method != 0 or flags & 1:
        return
    report.kind = "torch"
    start = zips.LOCAL.size + named + extra
    try:
        stored = outline(report, load(Stream(read, start, report.size), rebuild, limits), limits)
    except Misfit:
        report.notes.append("Its list of tensors is cut short too.")
        return
    missing = start + sum(stored.values()) - report.size
    if missing > 0:
        report.notes.append(f"At least {missing} bytes are missing.")


def _legacy(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "torch-legacy"
    try:
        end = legacy(report, Stream(read, 0, report.size), limits)
    except Misfit as e:
        report.complete = False
        report.notes.append(f"Its list of tensors cannot be read: {e}.")
        return
    report.complete = report.size >= end
    if not report.complete:
        report.notes.append(f"{end - report.size} bytes are missing.")


def _pickle(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "pickle"
    stream = Stream(read, 0, report.size)
    outline(report, load(stream, rebuild, limits), limits)
    report.complete = True if stream.tell() == report.size else None


def _npz(report: Report, read: Read, members: Iterable[zips.Member], limits: Limits) -> None:
    report.kind = "npz"
    arrays = [m for m in members if m.name.endswith(b".npy")]
    for number, member in enumerate(arrays):
        name = _name(member.name.removesuffix(b".npy"))
        try:
            limits.take(10_000, steps=1000)
        except TooLarge:
            report.notes.append(f"Only the first {number} arrays are listed.")
            break
        try:
            report.tensors.append(_array(name, _beginning(member, read)))
        except Misfit as e:
            report.notes.append(f"{name}: {e}.")


def _name(name: bytes) -> str:
    return name[:LONGEST_NAME].decode(errors="surrogateescape")


def _beginning(member: zips.Member, read: Read) -> bytes:
    """The first bytes of a member, unpacked; the header of an array is among them."""
    longest = npy.LONGEST_HEADER + 12
    near = read(member.header, zips.BUFFER)
    start = run(zips.data_offset(member), lambda offset, length: near[offset - member.header :][:length])
    packed = near[start - member.header :][: member.packed]
    if member.method == 0:
        more = len(packed) < 12 or int.from_bytes(packed[8:10], "little") > len(packed) - 12
        return read(start, min(member.packed, longest)) if more else packed
    if member.method != 8:
        raise Misfit(f"compressed by method {member.method}, which is not known")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, longest)
    except zlib.error as e:
        raise Misfit(f"cannot be unpacked: {e}") from None


def _array(name: str, data: bytes) -> TensorInfo:
    head = run(npy.header(), lambda offset, length: data[offset : offset + length])
    return TensorInfo(name, head.dtype, head.shape, head.nbytes or 0)


def _npy(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "npy"
    report.complete = _complete(npy.FORMAT, report.size, read)
    report.tensors.append(_array("(itself)", read(0, npy.LONGEST_HEADER + 12)))


# --- others -------------------------------------------------------------------------------------------------------


def _safetensors(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "safetensors"
    if report.size < 8 or 8 + run(safetensors.header_length(report.size), read) > report.size:
        report.complete = False
        report.notes.append("It is cut short within its header.")
        return
    report.tensors, report.metadata, end = run(safetensors.header(report.size, limits), read)
    report.complete = end == report.size
    if report.complete is False:
        difference = end - report.size
        told = f"{difference} bytes are missing." if difference > 0 else f"{-difference} bytes too many."
        report.notes.append(told)


def _parquet(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "parquet"
    report.complete = _complete(parquet.FORMAT, report.size, read)
    if report.complete is False:
        report.notes.append("It has no footer: it is being written, or was cut short.")
    elif report.complete:
        try:
            report.rows, report.columns = run(parquet.table(report.size, limits), read)
        except UNFIT as e:
            report.notes.append(f"Its columns cannot be listed: {e}.")


def _hdf5(report: Report, read: Read, limits: Limits) -> None:
    report.kind = "hdf5"
    report.complete = _complete(hdf5.FORMAT, report.size, read)
    if report.complete is False:
        report.notes.append("It is cut short, or was not closed.")
        return
    try:
        hidden = run(hdf5_tree.datasets(report, limits), _Window(read).get)
    except UNFIT as e:
        report.notes.append(f"Its datasets cannot all be listed: {e}.")
        return
    if hidden:
        report.notes.append(f"{hidden} of its groups are in the newest format, and are not listed.")


class _Window:
    """Reads forward in large chunks, handing out small pieces."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._start = 0
        self._data = b""

    def get(self, offset: int, length: int) -> bytes:
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            self._start = offset
            self._data = self._read(offset, max(length, CHUNK))
        return self._data[offset - self._start : offset - self._start + length]


def _events(report: Report, read: Read, limits: Limits) -> None:
    event_report.look(report, _Window(read).get, limits)
