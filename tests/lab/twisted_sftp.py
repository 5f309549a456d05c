"""An SFTP subsystem for a real sshd that spoils the answers of the system's sftp-server, in the way that a file says.

`Subsystem sftp python3 twisted_sftp.py MODE_FILE`; the file holds the name of one of `TWISTS`, or `honest`. It is read
anew for each answer. Needs the standard library alone.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # sshd starts it, in a Python that looks nowhere
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.sftp_between import Asked, stand_between, text

CLOSE, READDIR, READLINK, REALPATH = 4, 12, 19, 16
VERSION, DATA, NAME = 2, 103, 104
_ATTRIBUTES = struct.pack(">IQIIIII", 0xF, 5, 0, 0, 0o100644, 1_700_000_000, 1_700_000_000)
_HOSTILE_NAMES = [b"..", b"", b"../../escaped", b"a/b", b"/etc/passwd", b"nul\0", b"x" * 300, b"good"]
MARK = b"spoiled"
"""Only directories that hold this name have hostile or endless listings."""


def _names(head: bytes, names: list[bytes], others: bytes = b"") -> bytes:
    """An answer with these names, and those that another answer has."""
    entries = b"".join(text(name) + text(b"") + _ATTRIBUTES for name in names)
    count = len(names) + int.from_bytes(others[5:9])
    return text(bytes([NAME]) + head[1:5] + struct.pack(">I", count) + entries + others[9:])


def _hostile_names(asked: Asked, body: bytes) -> bytes:
    return _names(body, _HOSTILE_NAMES, body) if asked.kind == READDIR and MARK in body else text(body)


class _Endless:
    """Listings that never end, once they have begun to."""

    def __init__(self) -> None:
        self._handles: set[bytes] = set()
        self._numbers = itertools.count()

    def __call__(self, asked: Asked, body: bytes) -> bytes:
        if asked.kind == CLOSE:  # the handle may come to mean another directory
            self._handles.discard(asked.text)
        if asked.kind == READDIR and MARK in body:
            self._handles.add(asked.text)
        if asked.kind != READDIR or asked.text not in self._handles:
            return text(body)
        return _names(body, [b"%d" % next(self._numbers) for _ in range(1000)])


def _leading_out(asked: Asked, body: bytes) -> bytes:
    """Links lead to places whose path begins as the root's does."""
    if asked.kind not in (REALPATH, READLINK) or body[0] != NAME:
        return text(body)
    path = body[13 : 13 + int.from_bytes(body[9:13])]
    return _names(body, [path + b"/.." * 30 + b"/etc"])


def _more_data(asked: Asked, body: bytes) -> bytes:
    return text(body[:5] + text(body[9:] + b"!" * 10)) if body[0] == DATA else text(body)


def _hang_up(asked: Asked, body: bytes) -> bytes:
    os._exit(1)


TWISTS: dict[str, Callable[[Asked, bytes], bytes]] = {
    "garbage": lambda asked, body: b"Segmentation fault (core dumped)\n" * 10,
    "cut short": lambda asked, body: text(body[: len(body) // 2]),
    "nothing": lambda asked, body: b"",
    "hanging up": _hang_up,
    "more data than asked for": _more_data,
    "hostile names": _hostile_names,
    "endless directories": _Endless(),
    "links that lead out": _leading_out,
}


def main(mode_file: Path) -> None:
    def say(asked: Asked, body: bytes) -> bytes:
        twist = TWISTS.get(mode_file.read_text().strip())
        return text(body) if twist is None else twist(asked, body)

    stand_between(say)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
