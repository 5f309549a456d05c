"""Files of known formats, made by hand, so that tests of `formats` need neither PyTorch nor TensorBoard."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any

from vfs.formats.events import masked_crc


class Named:
    """Pickles as a global of another module, or as a call of one."""

    def __init__(self, name: str, args: tuple[Any, ...] | None = None) -> None:
        self.name = name
        self.args = args


class Stored:
    """Pickles as the persistent id of a storage."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.id = ("storage", Named(f"torch.{kind}Storage"), key, "cpu", count)


class _Pickler(pickle._Pickler):
    """The pure Python pickler, which can be taught to write what is not there to import."""

    def persistent_id(self, obj: object) -> Any:
        return obj.id if isinstance(obj, Stored) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, Named):
            super().save(obj, save_persistent_id)
            return
        module, _, name = obj.name.rpartition(".")
        self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
        if obj.args is not None:
            self.save(obj.args)
            self.write(pickle.REDUCE)


def dumps(value: object) -> bytes:
    """A pickle as PyTorch writes it (protocol 2), with `Named` and `Stored` in it."""
    to = io.BytesIO()
    _Pickler(to, 2).dump(value)
    return to.getvalue()


def tensor(key: str, shape: tuple[int, ...], kind: str = "Float") -> Named:
    """What `torch.save` pickles for a tensor whose elements are the record `data/KEY`."""
    count = 1
    for n in shape:
        count *= n
    args = (Stored(kind, key, count), 0, shape, (1,) * len(shape), False, OrderedDict())
    return Named("torch._utils._rebuild_tensor_v2", args)


def torch_archive(count: int, each: int, extra: dict[str, Any] | None = None) -> bytes:
    """A checkpoint as PyTorch writes it: `count` float32 tensors of `each` bytes, `l0000` and so on."""
    state = {f"l{i:04}": tensor(str(i), (each // 4,)) for i in range(count)}
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m/data.pkl", dumps({**state, **(extra or {})}))
        archive.writestr("m/.format_version", b"1")
        archive.writestr("m/byteorder", b"little")
        for i in range(count):
            archive.writestr(f"m/data/{i}", bytes(each))
        archive.writestr("m/version", b"3\n")
        archive.writestr("m/.data/serialization_id", b"0" * 40)
    return to.getvalue()


def safetensors_file(tensors: dict[str, tuple[str, list[int], int]], **metadata: str) -> bytes:
    """A safetensors file; `tensors` gives dtype, shape and size in bytes of each."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def record(data: bytes) -> bytes:
    """One record of an event file."""
    length = len(data).to_bytes(8, "little")
    return length + struct.pack("<L", masked_crc(length)) + data + struct.pack("<L", masked_crc(data))


def scalar_event(tag: str, step: int, wall_time: float) -> bytes:
    """A record as TensorBoard's `SummaryWriter.add_scalar` writes it."""
    value = _field(1, tag.encode()) + b"\x15" + struct.pack("<f", 0.5)
    event = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step) + _field(5, _field(1, value))
    return record(event)


def plugin_event(tag: str, step: int, plugin: str, body: bytes) -> bytes:
    """A record whose value is a tensor that belongs to a plugin, as images and histograms are."""
    value = _field(1, tag.encode()) + _field(9, _field(1, _field(1, plugin.encode()))) + _field(8, body)
    return record(b"\x09" + struct.pack("<d", 1.0) + b"\x10" + _varint(step) + _field(5, _field(1, value)))


def version_event(wall_time: float) -> bytes:
    """The record that every event file begins with."""
    return record(b"\x09" + struct.pack("<d", wall_time) + _field(3, b"brain.Event:2"))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def parquet_file(rows: int, columns: list[str]) -> bytes:
    """A Parquet file of doubles without data: what its footer says first, in Thrift's compact protocol."""

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    def signed(value: int) -> bytes:
        return bytes([2 * value])

    root = b"\x48" + text("schema") + b"\x15" + signed(len(columns)) + b"\0"
    leaves = [b"\x15" + signed(5) + b"\x38" + text(column) + b"\0" for column in columns]
    schema = bytes([(1 + len(columns)) << 4 | 12]) + root + b"".join(leaves)
    footer = b"\x15" + signed(1) + b"\x19" + schema + b"\x16" + signed(rows) + b"\x19\x0c\0"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
