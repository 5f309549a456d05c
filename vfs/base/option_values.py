"""What the value of each option may be. Pure; all functions raise `errors.UsageError` for a value that cannot be used."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from vfs.base import units
from vfs.base.errors import UsageError
from vfs.base.quantities import parse_duration, parse_size

DEFAULT_ROOT = "/shared/artifacts"
LEAST_CACHE_SIZE = 64 << 20

ViaName = Literal["fuse", "nfs"]
VIAS: tuple[ViaName, ...] = ("fuse", "nfs")
DEFAULT_VIA: ViaName = "nfs" if sys.platform == "darwin" else "fuse"
"""On macOS FUSE needs a kernel extension, and mfusepy does not support the present one."""

TransportName = Literal["paramiko", "openssh"]
TRANSPORTS: tuple[TransportName, ...] = ("paramiko", "openssh")


def check_root(text: str) -> str:
    """A path without needless slashes, from the login directory if it is relative or begins with `~/`.

    Raises `errors.UsageError`.
    """
    if not text or "\0" in text or re.match("~[^/]", text):
        raise UsageError(f"the remote root {text!r} is not a path; write it like {DEFAULT_ROOT}")
    # ".." stays: behind a symbolic link it does not mean what it seems to
    parts = [part for part in text.removeprefix("~").split("/") if part not in ("", ".")]
    absolute = text.startswith("/")
    return "/" * absolute + "/".join(parts) or "."


def as_cache_size(value: object) -> int:
    """Bytes of a cache's limit, as text or, from a program, a number. Raises UsageError for less than LEAST_CACHE_SIZE."""
    size = value if isinstance(value, int) else parse_size(str(value))
    if size < LEAST_CACHE_SIZE:
        raise UsageError(
            f"a cache of {units.size(size)} is too small; the least is {units.size(LEAST_CACHE_SIZE)}"
        )
    return size


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{value!r} is neither true nor false")
    return value


def as_path(value: object) -> Path:
    """An absolute path of this machine; `~` stands for the home directory."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UsageError(f"{value!r} is not a path")
    return Path(os.path.abspath(os.path.expanduser(value)))


def _transport(value: object) -> TransportName:
    if value not in TRANSPORTS:
        raise UsageError(f"{value!r} is not a transport; choose {' or '.join(TRANSPORTS)}")
    return value


def _via(value: object) -> ViaName:
    if value not in VIAS:
        raise UsageError(f"{value!r} is not a way to mount; choose {' or '.join(VIAS)}")
    return value


def _timeout(value: object) -> float:
    if (seconds := parse_duration(str(value))) <= 0:
        raise UsageError("the timeout must be longer than zero; write it like 30s")
    return seconds


CONVERT: Mapping[str, Callable[[object], object]] = {
    "cache_dir": as_path,
    "cache_size": as_cache_size,
    "timeout": _timeout,
    "ttl": lambda value: parse_duration(str(value)),
    "transport": _transport,
    "via": _via,
    "accept_new_host_key": _flag,
    "allow_other": _flag,
    "metered": _flag,
    "log_file": as_path,
}
"""What a profile's `options` may hold."""
