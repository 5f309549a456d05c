"""open(2) and pread(2) as a C program makes them: Python's own begin again after a signal, which hides EINTR."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.open.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_libc.pread.restype = ctypes.c_ssize_t


def open_file(path: Path | bytes) -> int:
    """A descriptor for reading. Raises OSError, also InterruptedError."""
    return _checked(_libc.open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC), path)


def pread(file: int, length: int, offset: int) -> bytes:
    """What one pread(2) gives. Raises OSError, also InterruptedError."""
    buffer = ctypes.create_string_buffer(length)
    got = _checked(_libc.pread(file, buffer, length, offset))
    return buffer.raw[:got]


def _checked(result: int, path: Path | bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
