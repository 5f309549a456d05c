"""An SFTP subsystem for a real sshd that behaves as another server does, by changing single answers of the system's.

`Subsystem sftp python3 sftp_filter.py RULE`, one of `RULES`; `RULE@FILE` holds only while the file exists. Needs the
standard library alone.
"""

from __future__ import annotations

import os
import posixpath
import struct
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # sshd starts it, in a Python that looks nowhere
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.sftp_between import Asked, stand_between, text

CLOSE, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT, READLINK, EXTENDED = 4, 7, 8, 11, 12, 16, 17, 19, 200
STATUS, DATA, NAME, ATTRS = 101, 103, 104, 105
EOF, DENIED, FAILURE = 1, 3, 4


Rule = Callable[[Asked, bytes], bytes]
"""From a request and its honest answer, both without their lengths, to what is said instead."""


def _status(body: bytes, code: int) -> bytes:
    return bytes([STATUS]) + body[1:5] + struct.pack(">I", code) + text(b"") + text(b"")


def _names(body: bytes) -> list[bytes]:
    """The names in a NAME of sftp-server, whose attributes are 32 bytes each."""
    names, at = [], 9
    for _ in range(int.from_bytes(body[5:9])):
        length = int.from_bytes(body[at : at + 4])
        names.append(body[at + 4 : at + 4 + length])
        at += 4 + length
        at += 4 + int.from_bytes(body[at : at + 4])
        at += 32 if body[at : at + 4] == b"\0\0\0\x0f" else 4
    return names


def _name(body: bytes, names: list[bytes], attributes: bytes) -> bytes:
    entries = b"".join(text(name) + text(b"") + attributes for name in names)
    return bytes([NAME]) + body[1:5] + struct.pack(">I", len(names)) + entries


def refusing(*kinds: int, code: int = DENIED) -> Rule:
    """A server that does not answer requests of these kinds."""
    return lambda asked, body: _status(body, code) if asked.kind in kinds else body


def _tidy(asked: Asked, body: bytes) -> bytes:
    if asked.kind != REALPATH or body[0] != NAME or asked.text == b".":
        return body
    return _name(body, [posixpath.normpath(asked.text)], b"\0\0\0\0")


class _EmptyNames:
    """An empty directory is a reply without names first."""

    def __init__(self) -> None:
        self._begun: set[bytes] = set()

    def __call__(self, asked: Asked, body: bytes) -> bytes:
        if asked.kind == CLOSE:  # its handle is the next directory's
            self._begun.discard(asked.text)
        if asked.kind != READDIR:
            return body
        names = [name for name in _names(body) if name not in (b".", b"..")] if body[0] == NAME else []
        if asked.text not in self._begun and not names:
            self._begun.add(asked.text)
            return _name(body, [], b"")
        self._begun.add(asked.text)
        return body


def _bare(asked: Asked, body: bytes) -> bytes:
    bare = asked.kind in (READDIR, READLINK) and body[0] == NAME
    return _name(body, _names(body), b"") if bare else body


def _untold(asked: Asked, body: bytes) -> bytes:
    return _name(body, _names(body), b"\0\0\0\0") if asked.kind == READDIR and body[0] == NAME else body


def _in_eights(asked: Asked, body: bytes) -> bytes:
    if body[0] != DATA:
        return body
    data = body[9:]
    return body[:5] + text(data + b"\xff" * (-len(data) % 8))


def _old_clock(asked: Asked, body: bytes) -> bytes:
    """A server of one process that was first asked long ago."""
    if asked.text == b"/proc/self" and body[0] == ATTRS:
        return body[:-4] + struct.pack(">I", int.from_bytes(body[-4:]) - 39)
    return body


def _follows(asked: Asked, body: bytes) -> bytes:
    """LSTAT tells what a link leads to."""
    if asked.kind != LSTAT or body[0] != ATTRS:
        return body
    try:
        there = os.stat(asked.text)
    except OSError:
        return body
    numbers = (
        there.st_size,
        there.st_uid,
        there.st_gid,
        there.st_mode,
        int(there.st_atime),
        int(there.st_mtime),
    )
    return body[:5] + struct.pack(">IQIIIII", 0xF, *numbers)


RULES: dict[str, Rule] = {
    "tidy-real-paths": _tidy,
    "empty-names": _EmptyNames(),
    "bare-names": _bare,
    "untold-attributes": _untold,
    "in-eights": _in_eights,
    "old-clock": _old_clock,
    "no-clock": lambda asked, body: _status(body, FAILURE) if asked.text.startswith(b"/proc/") else body,
    "no-fstat": refusing(FSTAT),
    "no-lstat": refusing(LSTAT),
    "following-lstat": _follows,
    "no-stat": refusing(STAT),
    "no-readlink": refusing(READLINK),
    "no-realpath": refusing(REALPATH),
    "no-extensions": refusing(EXTENDED),
    "no-listings": refusing(OPENDIR, code=FAILURE),
}


def main(rule_at: str) -> None:
    name, _, switch = rule_at.partition("@")
    rule = RULES[name]
    stand_between(
        lambda asked, body: text(rule(asked, body) if not switch or os.path.exists(switch) else body)
    )


if __name__ == "__main__":
    main(sys.argv[1])
