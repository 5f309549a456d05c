"""An SFTP subsystem for a real sshd that spoils the answers of the system's sftp-server, in the way that a file says.

`Subsystem sftp python3 twisted_sftp.py MODE_FILE`; the file holds the name of one of `TWISTS`, or `honest`. It is read
anew for each answer. Runs on its own, without the project.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
CLOSE, READDIR, READLINK, REALPATH = 4, 12, 19, 16
VERSION, DATA, NAME = 2, 103, 104
_ATTRIBUTES = struct.pack(">IQIIIII", 0xF, 5, 0, 0, 0o100644, 1_700_000_000, 1_700_000_000)
_HOSTILE_NAMES = [b"..", b"", b"../../escaped", b"a/b", b"/etc/passwd", b"nul\0", b"x" * 300, b"good"]
MARK = b"spoiled"
"""Only directories that hold this name have hostile or endless listings."""


class Asked(NamedTuple):
    """A request: `text` is its path or handle."""

    kind: int
    text: bytes


def _text(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _names(head: bytes, names: list[bytes], others: bytes = b"") -> bytes:
    """An answer with these names, and those that another answer has."""
    entries = b"".join(_text(name) + _text(b"") + _ATTRIBUTES for name in names)
    count = len(names) + int.from_bytes(others[5:9])
    return _text(bytes([NAME]) + head[1:5] + struct.pack(">I", count) + entries + others[9:])


def _hostile_names(asked: Asked, body: bytes) -> bytes:
    return _names(body, _HOSTILE_NAMES, body) if asked.kind == READDIR and MARK in body else _text(body)


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
            return _text(body)
        return _names(body, [b"%d" % next(self._numbers) for _ in range(1000)])


def _leading_out(asked: Asked, body: bytes) -> bytes:
    """Links lead to places whose path begins as the root's does."""
    if asked.kind not in (REALPATH, READLINK) or body[0] != NAME:
        return _text(body)
    path = body[13 : 13 + int.from_bytes(body[9:13])]
    return _names(body, [path + b"/.." * 30 + b"/etc"])


def _more_data(asked: Asked, body: bytes) -> bytes:
    return _text(body[:5] + _text(body[9:] + b"!" * 10)) if body[0] == DATA else _text(body)


def _hang_up(asked: Asked, body: bytes) -> bytes:
    os._exit(1)


TWISTS: dict[str, Callable[[Asked, bytes], bytes]] = {
    "garbage": lambda asked, body: b"Segmentation fault (core dumped)\n" * 10,
    "cut short": lambda asked, body: _text(body[: len(body) // 2]),
    "nothing": lambda asked, body: b"",
    "hanging up": _hang_up,
    "more data than asked for": _more_data,
    "hostile names": _hostile_names,
    "endless directories": _Endless(),
    "links that lead out": _leading_out,
}


def _packet(stream: BinaryIO) -> bytes:
    """The next one, without its length. Raises EOFError."""
    head = stream.read(4)
    body = stream.read(int.from_bytes(head)) if len(head) == 4 else b""
    if not body:
        raise EOFError
    return body


def main(mode_file: Path) -> None:
    child = subprocess.Popen([SFTP_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    requests, answers = child.stdin, child.stdout
    waiting: dict[bytes, Asked] = {}

    def forward() -> None:
        with contextlib.suppress(EOFError, OSError), requests:
            while True:
                body = _packet(sys.stdin.buffer)
                waiting[body[1:5]] = Asked(body[0], body[9 : 9 + int.from_bytes(body[5:9])])
                requests.write(_text(body))
                requests.flush()

    threading.Thread(target=forward, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            body = _packet(answers)
            twist = TWISTS.get(mode_file.read_text().strip())
            # INIT has no id: its answer goes through as it is.
            asked = waiting.pop(body[1:5], None)
            honest = twist is None or asked is None or body[0] == VERSION
            sys.stdout.buffer.write(_text(body) if honest else twist(asked, body))
            sys.stdout.buffer.flush()
    child.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
