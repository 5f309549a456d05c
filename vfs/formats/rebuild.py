"""What calls in a checkpoint's pickle would make, as far as it can be told without calling: tensors, arrays,
numbers.

Source: torch/_utils.py (the `_rebuild_…` functions), torch/serialization.py (`persistent_load`),
numpy/_core/multiarray (`_reconstruct`, `scalar`).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import cast

from vfs.base.units import elements
from vfs.formats.limits import MOST_DIMENSIONS
from vfs.formats.npy import plain_dtype
from vfs.formats.pickles import Made, Reference, Symbol, Symbolic

_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "Untyped": "uint8",
}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor or an array; `storage` names the record with its bytes (None: in the pickle, or nowhere)."""

    dtype: str
    shape: tuple[int, ...]
    storage: str | None = None
    stored: int = 0

    @property
    def nbytes(self) -> int:
        return itemsize(self.dtype) * elements(self.shape)


def itemsize(dtype: str) -> int:
    """Bytes of one element; 0 where the name does not tell."""
    if dtype == "bool":
        return 1
    bits = re.match(r"[a-z]*(?:bfloat|float|uint|int|complex)(\d+)", dtype)
    return int(bits[1]) // 8 if bits else 0


def rebuild(made: Made) -> object:
    """The Tensor or the number that `made` stands for, else `made` itself."""
    name, args = made.name.rpartition(".")[2], made.args
    if name == "_rebuild_tensor_v3" and len(args) > 6:
        return _tensor(args[0], args[2], dtype_of(args[6])) or made
    if name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_qtensor") and len(args) > 2:
        return _tensor(args[0], args[2]) or made
    if name in ("_rebuild_parameter", "_rebuild_parameter_with_state") and args:
        return args[0] if isinstance(args[0], Tensor) else made
    if name == "_rebuild_from_type_v2" and len(args) > 2 and isinstance(args[0], Symbol):
        if isinstance(args[2], tuple) and not args[0].name.endswith(name):  # never within itself
            return rebuild(Made(args[0].name, args[2]))
        return made
    if (
        name == "_rebuild_meta_tensor_no_storage"
        and len(args) > 1
        and (shape := shape_of(args[1])) is not None
    ):
        return Tensor(dtype_of(args[0]), shape)
    if name == "_rebuild_sparse_tensor" and len(args) > 1 and isinstance(args[1], tuple) and len(args[1]) > 2:
        values, shape = args[1][1], shape_of(args[1][2])
        if isinstance(values, Tensor) and shape is not None:
            return Tensor(values.dtype, shape, values.storage, values.stored)
    if made.name == "torch.Size" and args and (shape := shape_of(args[0])) is not None:
        return shape
    if made.name == "_codecs.encode" and args and isinstance(args[0], str) and len(args[0]) <= 64:
        return args[0].encode("latin-1", errors="replace")
    if made.name.startswith("numpy"):
        return _numpy(name, made)
    return made


def storage(reference: Symbolic) -> tuple[str, str, int] | None:
    """The dtype, the record and the number of elements of a storage that lies outside the pickle."""
    told = reference.id if isinstance(reference, Reference) else None
    match told:
        case ("storage", Symbol() as kind, str(key), _, int(count), *_) if 0 <= count < 1 << 63:
            dtype = _STORAGES.get(kind.name.rpartition(".")[2].removesuffix("Storage"), kind.name)
            return dtype, key[:256], count
    return None


def _tensor(stored: Symbolic, size: Symbolic, dtype: str = "") -> Tensor | None:
    where, shape = storage(stored), shape_of(size)
    if where is None or shape is None:
        return None
    return Tensor(dtype or where[0], shape, where[1], where[2] * itemsize(where[0]))


def shape_of(size: Symbolic) -> tuple[int, ...] | None:
    """`size` if it can be the shape of a tensor."""
    if not isinstance(size, tuple) or len(size) > MOST_DIMENSIONS:
        return None
    return cast(tuple[int, ...], size) if all(isinstance(n, int) and 0 <= n < 1 << 63 for n in size) else None


def dtype_of(symbol: Symbolic) -> str:
    """The name of a dtype that a pickle would import: `float32`; `?` if it is none."""
    return symbol.name.removeprefix("torch.") if isinstance(symbol, Symbol) else "?"


def _numpy(name: str, made: Made) -> object:
    if name in ("_reconstruct", "ndarray") and isinstance(made.state, tuple) and len(made.state) > 2:
        shape = shape_of(made.state[1])
        return made if shape is None else Tensor(_numpy_dtype(made.state[2]), shape)
    if name == "_frombuffer" and len(made.args) > 2:
        shape = shape_of(made.args[2])
        return made if shape is None else Tensor(_numpy_dtype(made.args[1]), shape)
    if name == "scalar" and len(made.args) > 1 and isinstance(made.args[1], bytes):
        dtype = made.args[0]
        code = dtype.args[0] if isinstance(dtype, Made) and dtype.args else None
        format = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "u8": "<Q", "b1": "<?"}.get(
            code if isinstance(code, str) else ""
        )
        if format is not None and len(made.args[1]) == struct.calcsize(format):
            return struct.unpack(format, made.args[1])[0]
    return made


def _numpy_dtype(dtype: Symbolic) -> str:
    code = dtype.args[0] if isinstance(dtype, Made) and dtype.args else None
    return plain_dtype(code)[0][:64] if isinstance(code, str) else "?"
