"""NumPy's .npy: a short header, then the array. Nothing to foresee: the header comes with the first page.

Source: numpy.lib.format, "Format Specification": magic, version, length of the header (u16, from version 2 on
u32), the header, a Python literal.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from vfs.base.units import elements
from vfs.formats.api import Format, Misfit, Steps, need
from vfs.formats.limits import MOST_DIMENSIONS

MAGIC = b"\x93NUMPY"
NUMBERS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
"""NumPy's names of kinds, without the bits."""
LONGEST_HEADER = 10_000
"""Bytes; NumPy itself refuses longer ones."""


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """`data` is where the array begins; `itemsize` is None where the dtype is not a plain one."""

    data: int
    dtype: str
    itemsize: int | None
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int | None:
        return None if self.itemsize is None else self.itemsize * elements(self.shape)


def header() -> Steps[NpyHeader]:
    """The header of the first array. Raises Misfit."""
    head = yield from need(0, 10)
    if not head.startswith(MAGIC) or head[6] not in (1, 2, 3):
        raise Misfit("no array")
    at = 10 if head[6] == 1 else 12
    if at == 12:
        head = yield from need(0, at)
    length = int.from_bytes(head[8:at], "little")
    if length > LONGEST_HEADER:
        raise Misfit(f"a header of {length} bytes")
    text = yield from need(at, at + length)
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes and numbers
            told = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise Misfit("the header is no literal") from None
    match told:
        case {"descr": descr, "fortran_order": bool(), "shape": tuple(shape)}:
            if len(shape) <= MOST_DIMENSIONS and all(isinstance(n, int) and 0 <= n < 1 << 63 for n in shape):
                return NpyHeader(at + length, *plain_dtype(descr), shape)
    raise Misfit("the header lacks dtype or shape")


def plain_dtype(descr: object) -> tuple[str, int | None]:
    """Its name, as NumPy shows it, and its size in bytes: '<f8' is float64. What is not native, or no number, keeps its text."""
    text = str(descr)[:1024]
    plain = (
        re.fullmatch(r"([<>|=]?)([biufcSVmMU?])(\d{1,9})(\[\w+\])?", text) if isinstance(descr, str) else None
    )
    if plain is None:
        return text, None
    order, kind, size = plain[1], plain[2], int(plain[3])
    if order != ">" and kind in NUMBERS:
        text = NUMBERS[kind] if kind == "b" else f"{NUMBERS[kind]}{8 * size}"
    return text, size * (4 if kind == "U" else 1)


def complete(size: int) -> Steps[bool | None]:
    """Complete if the array fits. A longer file is complete, too: several arrays may follow each other."""
    if size < 10:
        return False
    head = yield from header()
    return None if head.nbytes is None else size >= head.data + head.nbytes


FORMAT = Format(names=re.compile(rb"\.npy$", re.IGNORECASE), magic=MAGIC, complete=complete)
