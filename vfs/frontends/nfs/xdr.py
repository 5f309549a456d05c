"""External Data Representation: the integers and byte strings of RPC calls (RFC 4506). No I/O."""

from __future__ import annotations

import struct

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

ZEROS = (b"", b"\0", b"\0\0", b"\0\0\0")
"""Padding to a multiple of four bytes, by its length."""


class Malformed(OSError):
    """The bytes are not what the procedure takes."""


class Unpacker:
    """Reads values off the front of `data`. Every method raises `Malformed` when too little is left."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def u32(self) -> int:
        value: int = _U32.unpack_from(self._data, self._take(4))[0]
        return value

    def u64(self) -> int:
        value: int = _U64.unpack_from(self._data, self._take(8))[0]
        return value

    def opaque(self, most: int) -> bytes:
        """A byte string with its length before it. Raises `Malformed` also for more than `most` bytes."""
        size = self.u32()
        if size > most:
            raise Malformed(f"{size} bytes where {most} are allowed")
        start = self._take(size + -size % 4)
        return self._data[start : start + size]

    def _take(self, size: int) -> int:
        start = self._at
        if start + size > len(self._data):
            raise Malformed(f"{size} bytes expected, {self.left} left")
        self._at = start + size
        return start


class Packer:
    """Collects values in `data`; each method returns the packer, so that calls can be chained.

    `pieces` of memory may follow, which are not copied; `keep` owns that memory.
    """

    __slots__ = ("data", "keep", "pieces")

    def __init__(self) -> None:
        self.data = bytearray()
        self.pieces: list[memoryview] = []
        self.keep: object = None

    def __len__(self) -> int:
        return len(self.data) + sum(map(len, self.pieces))

    def u32(self, *values: int) -> Packer:
        for value in values:
            self.data += _U32.pack(value)
        return self

    def u64(self, *values: int) -> Packer:
        for value in values:
            self.data += _U64.pack(value)
        return self

    def opaque(self, value: bytes) -> Packer:
        """A byte string with its length before it, padded."""
        self.data += _U32.pack(len(value))
        self.data += value
        self.data += ZEROS[-len(value) % 4]
        return self

    def raw(self, value: bytes | bytearray) -> Packer:
        """What is packed already."""
        self.data += value
        return self

    def then(self, other: Packer) -> Packer:
        """What another has packed."""
        self.data += other.data
        self.pieces, self.keep = other.pieces, other.keep
        return self

    def last(self, pieces: list[memoryview], keep: object) -> Packer:
        """These pieces follow, padded, and nothing behind them; `keep` is held until they are sent."""
        self.pieces, self.keep = pieces, keep
        self.pieces.append(memoryview(ZEROS[-sum(map(len, pieces)) % 4]))
        return self
