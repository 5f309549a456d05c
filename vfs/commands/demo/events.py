"""TensorBoard's event files, written without TensorBoard: TFRecords that hold `tensorflow.Event` messages.

Sources: record framing and masked CRC from tensorflow/core/lib/io/record_writer.h and core/lib/hash/crc32c.h; field
numbers from tensorboard/compat/proto/{event,summary}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

_CASTAGNOLI = 0x82F63B78
"""The CRC-32C polynomial, reflected (RFC 3720, appendix B.4)."""
_MASK_DELTA = 0xA282EAD8

# Protobuf keys: field number << 3 | wire type.
_WALL_TIME = b"\x09"  # Event.wall_time, double
_STEP = b"\x10"  # Event.step, varint
_FILE_VERSION = b"\x1a"  # Event.file_version, string
_SUMMARY = b"\x2a"  # Event.summary, message
_VALUE = b"\x0a"  # Summary.value, message
_TAG = b"\x0a"  # Summary.Value.tag, string
_SIMPLE_VALUE = b"\x15"  # Summary.Value.simple_value, float


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, rotated and offset as TFRecords store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """`data` framed as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def file_version(wall_time: float) -> bytes:
    """The record that begins every event file. `wall_time`: seconds since 1970."""
    return record(_WALL_TIME + struct.pack("<d", wall_time) + _FILE_VERSION + _sized(b"brain.Event:2"))


def scalars(wall_time: float, step: int, values: Mapping[str, float]) -> bytes:
    """One record with the scalars of one step. `wall_time`: seconds since 1970; `values`: by tag."""
    summary = b"".join(
        _VALUE + _sized(_TAG + _sized(tag.encode()) + _SIMPLE_VALUE + struct.pack("<f", value))
        for tag, value in values.items()
    )
    event = _WALL_TIME + struct.pack("<d", wall_time) + _STEP + _varint(step) + _SUMMARY + _sized(summary)
    return record(event)


def file_name(started: float, host: str, pid: int) -> str:
    """The name that `torch.utils.tensorboard.SummaryWriter` would choose."""
    return f"events.out.tfevents.{int(started)}.{host}.{pid}.0"


def append(path: Path, records: bytes) -> None:
    """Add whole records to the end of an event file in one write, so that no reader sees half of one for long."""
    with path.open("ab", buffering=0) as file:
        file.write(records)


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
