"""TensorBoard's event files: records of protobuf messages, appended while training goes on.

Source: tensorflow/core/lib/io/record_writer.h for the records (u64 length, masked CRC-32C of the length, the
data, masked CRC-32C of the data; little-endian), tensorboard/compat/proto/event.proto and summary.proto for
the messages.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from vfs.formats import small_files
from vfs.formats.api import Format, Misfit
from vfs.formats.limits import Limits, TooLarge

MOST_VALUES = 20_000
"""Values of one record that are looked at."""

HEAD = struct.Struct("<QL")
FOOT = 4


FORMAT = Format(names=re.compile(rb"\.tfevents\."), advise=small_files.advise)
"""TensorBoard reads all of every file."""


def _crc_table() -> list[int]:
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _crc_table()


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, rotated and offset as the records' format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_length(head: bytes) -> int:
    """The length of a record's data from its first 12 bytes. Raises Misfit if the checksum says it is no
    record.
    """
    if len(head) != HEAD.size:
        raise Misfit("a record is cut short")
    length, crc = HEAD.unpack(head)
    if masked_crc(head[:8]) != crc:
        raise Misfit("no record: the checksum of its length is wrong")
    return int(length)


def is_record(head: bytes) -> bool:
    """Whether a record can begin with these 12 bytes."""
    try:
        record_length(head)
    except Misfit:
        return False
    return True


def event(data: bytes, limits: Limits) -> tuple[float, int, list[tuple[str, str]]]:
    """Decode one `Event` message, or the beginning of one: seconds since 1970, the step, the tag and kind of each value.

    A kind is empty where only an earlier record of the same tag tells it. Raises Misfit if it is no message, TooLarge.
    """
    wall_time, step = 0.0, 0
    values: list[tuple[str, str]] = []
    for number, value in fields(data, limits):
        match number, value:
            case 1, float():
                wall_time = value
            case 2, int():
                step = value - (1 << 64) if value >> 63 else value
            case 5, bytes():
                for part in _messages(value, 1, limits):
                    values.append(_value(part, limits))
                    if len(values) > MOST_VALUES:
                        raise TooLarge("a record of too many values")
    return wall_time, step, values


def _value(data: bytes, limits: Limits) -> tuple[str, str]:
    tag, kind, plugin = "", "", ""
    for number, value in fields(data, limits):
        match number, value:
            case 1, bytes():
                tag = value[:1024].decode(errors="replace")
            case 2, float():
                kind = "scalars"
            case 4, bytes():
                kind = "images"
            case 5, bytes():
                kind = "histograms"
            case 6, bytes():
                kind = "audio"
            case 9, bytes():
                about = next(_messages(value, 1, limits), b"")
                plugin = next(_messages(about, 1, limits), b"")[:64].decode(errors="replace")
    return tag, plugin or kind


def _messages(data: bytes, number: int, limits: Limits) -> Iterator[bytes]:
    """The values of one field of a message, if it holds texts or messages."""
    return (value for n, value in fields(data, limits) if n == number and isinstance(value, bytes))


def fields(data: bytes, limits: Limits) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protobuf message: varints as int, fixed ones as float, the rest as bytes (clipped at
    the end).

    Source: protobuf.dev, Encoding. Raises Misfit for groups (obsolete) and for what is no message, TooLarge.
    """
    at = 0
    while at < len(data):
        limits.take()
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            if at + width > len(data):
                return
            yield number, struct.unpack_from("<d" if wire == 1 else "<f", data, at)[0]
            at += width
        else:
            raise Misfit(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Misfit("a number that does not end")
