"""A program that reads what is mounted and compares it with the server's own files, until it is killed.

`python reader.py MOUNTPOINT ROOT SEED`; a line of JSON for each thing that it did. Runs on its own.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import time
from pathlib import Path

SAMPLE = 300_000
"""Bytes of a read in the middle of a file."""
HEAD = 16
"""Bytes at the beginning of a file in `live` from which the rest of it follows."""


def content(head: bytes, size: int) -> bytes:
    """What is in a file of `live` that begins so."""
    return head + random.Random(head).randbytes(size - HEAD)


def read(path: Path, offset: int, size: int) -> bytes:
    """Bytes as the mount gives them, not those that the kernel has kept."""
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(offset)
        parts = []
        while size and (part := file.read(min(size, 1 << 20))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def is_right(mount: Path, root: Path, chance: random.Random) -> bool:
    """Do one thing, and compare. Raises OSError."""
    name = Path("still") / str(chance.randrange(len(os.listdir(root / "still"))))
    size = (root / name).stat().st_size
    what = chance.random()
    if what < 0.1:
        return sorted(os.listdir(mount / "still")) == sorted(os.listdir(root / "still"))
    if what < 0.2:
        return (mount / name).stat().st_size == size
    if what < 0.4:
        live = mount / "live" / str(chance.randrange(len(os.listdir(root / "live"))))
        bytes_ = read(live, 0, 1 << 30)
        return bytes_ == content(bytes_[:HEAD], len(bytes_)) and len(bytes_) > HEAD
    if what < 0.6:
        return read(mount / name, 0, size + 1) == (root / name).read_bytes()
    offset = chance.randrange(size)
    return read(mount / name, offset, SAMPLE) == read(root / name, offset, SAMPLE)


def main(mount: Path, root: Path, seed: int) -> None:
    chance = random.Random(seed)
    while True:
        began = time.monotonic()
        try:
            result = "right" if is_right(mount, root, chance) else "wrong"
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, str(error))
            if error.errno == errno.ENOENT and not os.path.ismount(mount):
                result = "ENOTCONN"  # between a killed mount and the next one
        print(json.dumps([result, time.monotonic() - began]), flush=True)
        if result != "right":
            time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
