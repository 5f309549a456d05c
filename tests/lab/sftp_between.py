"""Stands between a real sshd and the system's sftp-server, and changes what the latter answers.

For the subsystems `sftp_filter.py` and `twisted_sftp.py`, which an sshd starts. Needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
INIT, VERSION = 1, 2


class Asked(NamedTuple):
    """A request: `text` is its path or handle."""

    kind: int
    text: bytes


def text(content: bytes) -> bytes:
    """A string, or a packet, with its length before it."""
    return struct.pack(">I", len(content)) + content


def _packet(stream: BinaryIO) -> bytes:
    """The next one, without its length. Raises EOFError."""
    head = stream.read(4)
    body = stream.read(int.from_bytes(head)) if len(head) == 4 else b""
    if not body:
        raise EOFError
    return body


def stand_between(say: Callable[[Asked, bytes], bytes]) -> None:
    """Pass everything on until one side ends. `say`: from a request and its honest answer, both without their lengths,
    to the bytes that are sent instead."""
    child = subprocess.Popen([SFTP_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    requests, answers = child.stdin, child.stdout
    waiting: dict[bytes, Asked] = {}

    def forward() -> None:
        with contextlib.suppress(EOFError, OSError), requests:
            while True:
                body = _packet(sys.stdin.buffer)
                if body[0] != INIT:  # it has no id
                    waiting[body[1:5]] = Asked(body[0], body[9 : 9 + int.from_bytes(body[5:9])])
                requests.write(text(body))
                requests.flush()

    threading.Thread(target=forward, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            body = _packet(answers)
            asked = waiting.pop(body[1:5], None) if body[0] != VERSION else None
            sys.stdout.buffer.write(text(body) if asked is None else say(asked, body))
            sys.stdout.buffer.flush()
    child.kill()
