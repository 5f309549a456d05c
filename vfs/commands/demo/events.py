"""TensorBoard's event files, written without TensorBoard: TFRecords that hold `tensorflow.Event` messages.

Sources: record framing from tensorflow/core/lib/io/record_writer.h; field numbers from tensorboard/compat/proto/{event,summary}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from vfs.formats.events import masked_crc

# Protobuf keys: field number << 3 | wire type.
_WALL_TIME = b"\x09"  # Event.wall_time, double
_STEP = b"\x10"  # Event.step, varint
_FILE_VERSION = b"\x1a"  # Event.file_version, string
_SUMMARY = b"\x2a"  # Event.summary, message
_VALUE = b"\x0a"  # Summary.value, message
_TAG = b"\x0a"  # Summary.Value.tag, string
_SIMPLE_VALUE = b"\x15"  # Summary.Value.simple_value, float


def record(data: bytes) -> bytes:
    """`data` framed as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


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
