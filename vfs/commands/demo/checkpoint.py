"""A checkpoint as `torch.save` writes it, made without torch: a stored zip whose pickle names float32 tensors.

Sources: torch/serialization.py (`_save`, `_load`) and caffe2/serialize/inline_container.cc (the records, their padding
to 64 bytes, the name of the padding field).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

ALIGNMENT = 64
"""Bytes; each record's data begins at a multiple of it, so that `torch.load(mmap=True)` may map tensors in place."""

_ARCHIVE = "archive"
"""The directory within the zip; torch reads any name, and writes this one when it saves to a file object."""
_LOCAL_HEADER = 30
_PADDING_FIELD = 0x4246
"""`FB` in the extra field of a local header holds the padding."""


@dataclass(frozen=True, slots=True)
class DemoTensor:
    """A contiguous float32 tensor: `data` holds its elements, little endian, four bytes each."""

    shape: tuple[int, ...]
    data: bytes


Value = int | float | str | DemoTensor | Mapping[str, "Value"]


def write(path: Path, content: Mapping[str, Value]) -> None:
    """Write `content` to `path`, to be read by `torch.load`, also with `weights_only=True` and with `mmap=True`."""
    storages: list[bytes] = []
    pickled = b"\x80\x02" + _pickle(content, storages) + b"."
    records = {
        "data.pkl": pickled,
        ".format_version": b"1",
        ".storage_alignment": str(ALIGNMENT).encode(),
        "byteorder": b"little",
        **{f"data/{number}": data for number, data in enumerate(storages)},
        "version": b"3\n",
        ".data/serialization_id": f"{zlib.crc32(pickled):040d}".encode(),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            info = zipfile.ZipInfo(f"{_ARCHIVE}/{name}")
            info.extra = _padding(archive.start_dir + _LOCAL_HEADER + len(info.filename.encode()))
            archive.writestr(info, data)
            # The directory at the end is written from the same object, and torch keeps the padding out of it.
            info.extra = b""


def _padding(data_at: int) -> bytes:
    """An extra field that moves data from `data_at` to the next multiple of ALIGNMENT."""
    length = -(data_at + 4) % ALIGNMENT
    return struct.pack("<HH", _PADDING_FIELD, length) + b"Z" * length


def _pickle(value: Value, storages: list[bytes]) -> bytes:
    """Protocol 2 opcodes for `value`; the bytes of its tensors go to `storages`, named by their number there."""
    match value:
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case DemoTensor():
            return _pickle_tensor(value, storages)
        case Mapping():
            items = (_pickle(key, storages) + _pickle(item, storages) for key, item in value.items())
            return b"}(" + b"".join(items) + b"u"


def _pickle_tensor(tensor: DemoTensor, storages: list[bytes]) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)."""
    number = str(len(storages))
    storages.append(tensor.data)
    strides = tuple(prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape)))
    elements = prod(tensor.shape)
    storage = (
        _tuple(
            _pickle("storage", storages),
            b"ctorch\nFloatStorage\n",
            _pickle(number, storages),
            _pickle("cpu", storages),
            _pickle(elements, storages),
        )
        + b"Q"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + _tuple(
            storage,
            _pickle(0, storages),
            _tuple(*(_pickle(length, storages) for length in tensor.shape)),
            _tuple(*(_pickle(stride, storages) for stride in strides)),
            b"\x89",
            b"ccollections\nOrderedDict\n)R",
        )
        + b"R"
    )


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
