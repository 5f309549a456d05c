"""What reads in a measurement: programs of their own, run as `python programs.py NAME ARGUMENT...`.

Each prints one line of JSON and checks, once its clock has stopped, that it got the bytes of the original, the file on
the server's own disk. They need nothing but the standard library, and torch or safetensors where they are named so.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

PIECE = 1 << 20
PAGE = 4096

Result = dict[str, float]


def read(path: str, original: str, seconds: str = "inf", at: str = "0") -> Result:
    """Read from the beginning in pieces of 1 MiB, at most for so long; begin `at` a time of the monotonic clock."""
    buffer = bytearray(
        os.path.getsize(original)
    )  # filled with zeros, so its pages are there before the clock starts
    view = memoryview(buffer)
    time.sleep(max(0.0, float(at) - time.monotonic()))
    began = time.monotonic()
    end = began + float(seconds)
    done = 0
    with open(path, "rb", buffering=0) as file:
        while time.monotonic() < end:
            count = file.readinto(view[done : done + PIECE])
            if not count:
                break
            done += count
    ended = time.monotonic()
    whole = ended < end
    with open(original, "rb", buffering=0) as file:
        for start in range(0, done, PIECE):
            _check(file.read(PIECE)[: done - start] == view[start : min(done, start + PIECE)])
    _check(not whole or done == len(buffer))
    return {"seconds": ended - began, "bytes": done, "ended": ended}


def drain(path: str, seconds: str) -> Result:
    """Read from the beginning through one buffer, at most for so long; for files too large to be kept."""
    buffer = bytearray(PIECE)
    began = time.monotonic()
    end = began + float(seconds)
    done = 0
    with open(path, "rb", buffering=0) as file:
        while time.monotonic() < end and (count := file.readinto(buffer)):
            done += count
    return {"seconds": time.monotonic() - began, "bytes": done}


def scattered(path: str, original: str, count: str) -> Result:
    """Read so many pages, each from a random place; the same places each time."""
    places = random.Random(4096)
    offsets = [places.randrange(os.path.getsize(original) // PAGE) * PAGE for _ in range(int(count))]
    with open(path, "rb", buffering=0) as file:
        began = time.monotonic()
        found = [os.pread(file.fileno(), PAGE, offset) for offset in offsets]
        seconds = time.monotonic() - began
    with open(original, "rb", buffering=0) as file:
        _check(found == [os.pread(file.fileno(), PAGE, offset) for offset in offsets])
    return {"seconds": seconds, "bytes": len(offsets) * PAGE}


def torch_load(path: str, original: str, name: str, mapped: str) -> Result:
    """`torch.load` of a dict of tensors, and the sum of the one that is named."""
    import torch

    began = time.monotonic()
    found = torch.load(path, mmap=mapped == "mmap", weights_only=True)[name]
    found.sum()
    seconds = time.monotonic() - began
    _check(torch.equal(found, torch.load(original, mmap=True, weights_only=True)[name]))
    return {"seconds": seconds}


def safetensors(path: str, original: str, name: str) -> Result:
    """`safe_open`, and the sum of the tensor that is named."""
    from safetensors import safe_open

    began = time.monotonic()
    with safe_open(path, "numpy") as file:
        found = file.get_tensor(name)
    found.sum()
    seconds = time.monotonic() - began
    with safe_open(original, "numpy") as file:
        _check((found == file.get_tensor(name)).all())
    return {"seconds": seconds}


def _check(right: bool) -> None:
    if not right:
        raise SystemExit("wrong bytes")


PROGRAMS: dict[str, Callable[..., Any]] = {
    program.__name__: program for program in (read, drain, scattered, torch_load, safetensors)
}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))
