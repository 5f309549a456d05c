"""The datasets of an HDF5 file: their paths, types and shapes; no data is read.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0": II.A superblock, III.A.1 B-trees of groups, III.B
symbol table nodes, III.D local heaps, IV.A object headers and their messages. Groups whose links lie in a fractal heap (more
than eight, as written with `libver="latest"`) are not gone through.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfs.base.units import elements
from vfs.formats.api import Misfit, Steps, need
from vfs.formats.hdf5 import Superblock, superblock
from vfs.formats.limits import LONGEST_NAME, MOST_DIMENSIONS, Limits
from vfs.formats.report import Report, TensorInfo

LONGEST = 1 << 20
"""Bytes of one part of a header, or of a group's names."""
_SPACE, _TYPE, _LINK_INFO, _LINK, _MORE, _GROUP = 0x01, 0x03, 0x02, 0x06, 0x10, 0x11
_CLASSES = {
    2: "time",
    3: "string",
    4: "bits",
    5: "opaque",
    6: "compound",
    7: "reference",
    8: "enum",
    10: "array",
}


def datasets(report: Report, limits: Limits) -> Steps[int]:
    """Put all datasets into the report, in the order of the groups; how many groups were not gone through. Raises Misfit,
    TooLarge, RecursionError."""
    head = yield from superblock(report.size)
    if head is None:
        raise Misfit("it has no superblock")
    tree = _Tree(report.tensors, head, limits)
    yield from tree.object("", head.root)
    return tree.hidden


class _Tree:
    """Goes through the objects of one file."""

    def __init__(self, found: list[TensorInfo], head: Superblock, limits: Limits) -> None:
        self.hidden = 0
        self._found = found
        self._base = head.base
        self._offsets = head.offsets
        self._lengths = head.lengths
        self._limits = limits
        self._seen: set[int] = set()

    def object(self, path: str, address: int) -> Steps[None]:
        """A group with all below it, or a dataset. An object of several names counts under the first."""
        self._limits.take(1000 + len(path), steps=100)
        if address in self._seen:
            return
        self._seen.add(address)
        shape: tuple[int, ...] | None = None
        kind, width = "", 0
        group: bytes | None = None
        links: list[tuple[str, int]] = []
        for message, data in (yield from self._header(address)):
            if message == _SPACE:
                shape = self._shape(data)
            elif message == _TYPE:
                kind, width = _type(data), int.from_bytes(data[4:8], "little")
            elif message == _GROUP:
                group = data
            elif message == _LINK:
                links += self._link(data)
            elif message == _LINK_INFO:
                at = 2 + 8 * (data[1] & 1)
                self.hidden += data[at : at + self._offsets] != b"\xff" * self._offsets
        if kind and shape is not None:
            self._found.append(TensorInfo(path or "/", kind, shape, elements(shape) * width))
        if group is not None:
            links += yield from self._symbols(group)
        for name, inner in links:
            yield from self.object(f"{path}/{name}".lstrip("/"), inner)

    # --- headers ----------------------------------------------------------------------------------------------------

    def _header(self, address: int) -> Steps[list[tuple[int, bytes]]]:
        """The messages of an object header: type and data of each."""
        start = yield from self._get(address, 32)
        latest = start.startswith(b"OHDR")
        ordered = False
        if latest:
            flags = start[5]
            ordered = bool(flags & 4)
            at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            width = 1 << (flags & 3)
            size, at = int.from_bytes(start[at : at + width], "little"), at + width
        else:
            size, at = int.from_bytes(start[8:12], "little"), 16
        messages: list[tuple[int, bytes]] = []
        parts = [(address + at, size)]
        while parts:
            where, size = parts.pop(0)
            data = yield from self._get(where, size)
            for kind, content in self._messages(data, latest, ordered):
                self._limits.take(200 + len(content))
                if kind == _MORE:
                    more, length = self._address(content), self._length(content, self._offsets)
                    parts.append((more + 4, length - 8) if latest else (more, length))
                else:
                    messages.append((kind, content))
        return messages

    def _messages(self, data: bytes, latest: bool, ordered: bool) -> Iterator[tuple[int, bytes]]:
        at, head = 0, (4 + 2 * ordered if latest else 8)
        while at + head <= len(data):
            kind = data[at] if latest else int.from_bytes(data[at : at + 2], "little")
            place = at + 1 if latest else at + 2
            size = int.from_bytes(data[place : place + 2], "little")
            yield kind, data[at + head : at + head + size]
            at += head + size

    def _shape(self, data: bytes) -> tuple[int, ...]:
        count, at = data[1], 8 if data[0] == 1 else 4
        if count > MOST_DIMENSIONS:
            raise Misfit("a dataset has too many dimensions")
        return tuple(self._length(data, at + i * self._lengths) for i in range(count))

    def _link(self, data: bytes) -> list[tuple[str, int]]:
        """A hard link's name and address. Soft links are left out: their targets have names of their own."""
        flags, at = data[1], 2
        if flags & 8:
            if data[at]:
                return []
            at += 1
        at += 8 * bool(flags & 4) + bool(flags & 0x10)
        width = 1 << (flags & 3)
        length, at = int.from_bytes(data[at : at + width], "little"), at + width
        return [(_text(data[at : at + length]), self._address(data, at + length))]

    # --- groups -----------------------------------------------------------------------------------------------------

    def _symbols(self, group: bytes) -> Steps[list[tuple[str, int]]]:
        """The names in a group with a symbol table, and where they lead."""
        heap = yield from self._get(
            self._address(group, self._offsets), 8 + 2 * self._lengths + self._offsets
        )
        size, where = self._length(heap, 8), self._address(heap, 8 + 2 * self._lengths)
        names = yield from self._get(where, size)
        links: list[tuple[str, int]] = []
        todo = [self._address(group)]
        while todo:
            address = todo.pop()
            if address in self._seen:
                raise Misfit("a group leads to itself")
            self._seen.add(address)
            self._limits.take(1000, steps=100)
            node = yield from self._get(address, 8)
            count = int.from_bytes(node[6:8], "little")
            if node.startswith(b"TREE"):
                step = self._lengths + self._offsets
                rest = yield from self._get(address + 8 + 2 * self._offsets, count * step)
                self._limits.take(40 * count, steps=count // 4)
                todo += [self._address(rest, i * step + self._lengths) for i in reversed(range(count))]
            elif node.startswith(b"SNOD"):
                step = 2 * self._offsets + 24
                rest = yield from self._get(address + 8, count * step)
                self._limits.take(count * 300, steps=count)
                for i in range(count):
                    entry = rest[i * step : (i + 1) * step]
                    at = self._address(entry)
                    name = names[at : at + LONGEST_NAME].partition(b"\0")[0]
                    if entry[self._offsets : 2 * self._offsets] != b"\xff" * self._offsets:  # no soft link
                        links.append((_text(name), self._address(entry, self._offsets)))
            else:
                raise Misfit("a group has no names")
        return links

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _get(self, address: int, size: int) -> Steps[bytes]:
        if not 0 <= size <= LONGEST:
            raise Misfit("a part of it is too long")
        return (yield from need(self._base + address, self._base + address + size))

    def _address(self, data: bytes, at: int = 0) -> int:
        return int.from_bytes(data[at : at + self._offsets], "little")

    def _length(self, data: bytes, at: int) -> int:
        return int.from_bytes(data[at : at + self._lengths], "little")


def _text(name: bytes) -> str:
    return name[:LONGEST_NAME].decode(errors="replace")


def _type(data: bytes) -> str:
    kind, flags, bits = data[0] & 15, data[1], 8 * int.from_bytes(data[4:8], "little")
    if kind == 0:
        return f"{'int' if flags & 8 else 'uint'}{bits}"
    if kind == 1:
        return f"float{bits}"
    if kind == 9:
        return "string" if flags & 15 == 1 else "list"
    return _CLASSES.get(kind, "unknown type")
