"""Thrift's compact protocol, as far as a Parquet footer needs it.

Source: github.com/apache/thrift, doc/specs/thrift-compact-protocol.md. A struct comes as a dict of its fields by number.
"""

from __future__ import annotations

import struct
from typing import Any

from vfs.formats.api import Misfit
from vfs.formats.limits import Limits

_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 12


class Compact:
    """Reads values of `data` from the beginning. Raises Misfit where they are cut short, TooLarge, RecursionError."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data = data
        self._at = 0
        self._limits = limits

    def struct(self, last: int | None = None) -> dict[int, Any]:
        """The fields of a struct, by number; with `last`, those up to that one."""
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            number = number + delta if delta else self._signed()
            if last is not None and number > last:
                break
            self._limits.take(100)
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        self._limits.take(200)
        if kind in (_TRUE, _FALSE):  # in a list
            return self._byte() == _TRUE
        if kind == _BYTE:
            return self._byte()
        if _BYTE < kind <= _I64:
            return self._signed()
        if kind == _DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > len(self._data):
                raise Misfit("a list in its footer is longer than the footer")
            return [self._value(head & 15) for _ in range(count)]
        if kind == _STRUCT:
            return self.struct()
        raise Misfit(f"its footer has a value of kind {kind}")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise Misfit("its footer is cut short")
        self._at += count
        return taken

    def _byte(self) -> int:
        return self._take(1)[0]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise Misfit("a number in its footer is too long")
        return value | byte << shift

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
