"""What reads in a measurement: programs of their own, run as `python programs.py NAME ARGUMENT...`.

Each prints one line of JSON and checks, once its clock has stopped, that it got the bytes of the original, the file on
the server's own disk. They need nothing but the standard library, and the library that reads the format.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

PIECE = 1 << 20

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


def first(path: str, original: str, length: str) -> Result:
    """Open, and read so many bytes from the beginning."""
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        found = file.read(int(length))
    seconds = time.monotonic() - began
    with open(original, "rb", buffering=0) as file:
        _check(found == file.read(int(length)))
    return {"seconds": seconds, "bytes": len(found)}


def part(path: str, original: str, offset: str, length: str) -> Result:
    """Open, and read so many bytes from there on."""
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        file.seek(int(offset))
        found = file.read(int(length))
    seconds = time.monotonic() - began
    with open(original, "rb", buffering=0) as file:
        _check(found == os.pread(file.fileno(), int(length), int(offset)))
    return {"seconds": seconds, "bytes": len(found)}


def pieces(path: str, original: str, pattern: str, count: str, length: str) -> Result:
    """Read so many pieces of `length` bytes: at random (the same places each time), a MiB apart, or backwards."""
    size, piece, number = os.path.getsize(original), int(length), int(count)
    if pattern == "strided":
        offsets = [place * PIECE % size for place in range(1, number + 1)]
    elif pattern == "backward":
        offsets = [size - piece * place for place in range(1, number + 1)]
    else:
        places = random.Random(4096)
        offsets = [places.randrange(size // piece) * piece for _ in range(number)]
    with open(path, "rb", buffering=0) as file:
        began = time.monotonic()
        found = [os.pread(file.fileno(), piece, offset) for offset in offsets]
        seconds = time.monotonic() - began
    with open(original, "rb", buffering=0) as file:
        _check(found == [os.pread(file.fileno(), piece, offset) for offset in offsets])
    return {"seconds": seconds, "bytes": number * piece}


def singly(path: str, original: str) -> Result:
    """Read a file byte by byte."""
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        found = b"".join(iter(lambda: file.read(1), b""))
    seconds = time.monotonic() - began
    with open(original, "rb") as file:
        _check(found == file.read())
    return {"seconds": seconds, "bytes": len(found)}


def together(path: str, original: str) -> Result:
    """Stat and read all files below a directory, 32 threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    names = sorted(
        os.path.relpath(os.path.join(place, name), original)
        for place, _, files in os.walk(original)
        for name in files
    )

    def one(name: str) -> bytes:
        os.stat(os.path.join(path, name))
        with open(os.path.join(path, name), "rb") as file:
            return file.read()

    began = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(one, names))
    seconds = time.monotonic() - began
    return _all_read(original, names, found, seconds)


def _all_read(original: str, names: list[str], found: list[bytes], seconds: float) -> Result:
    """The result of a program that read these files, each of which is compared with the original."""
    for name, data in zip(names, found, strict=True):
        with open(os.path.join(original, name), "rb") as file:
            _check(data == file.read())
    return {"seconds": seconds, "bytes": sum(map(len, found))}


def in_turn(path: str, original: str) -> Result:
    """Read all files of a directory one after the other, sorted."""
    names = sorted(os.listdir(original))
    began = time.monotonic()
    found = []
    for name in names:
        with open(os.path.join(path, name), "rb") as file:
            found.append(file.read())
    seconds = time.monotonic() - began
    return _all_read(original, names, found, seconds)


def copytree(path: str, original: str) -> Result:
    """`shutil.copytree` into an empty directory."""
    with tempfile.TemporaryDirectory() as place:
        copy = os.path.join(place, "copy")
        began = time.monotonic()
        shutil.copytree(path, copy)
        seconds = time.monotonic() - began
        _check(not subprocess.run(["diff", "-r", original, copy], check=False).returncode)
    return {"seconds": seconds}


def git_status(path: str, original: str) -> Result:
    """`git status`; nothing has changed."""
    began = time.monotonic()
    options = ["-c", "safe.directory=*", "--no-optional-locks", "-C", path]
    found = subprocess.run(["git", *options, "status", "--porcelain"], capture_output=True, check=True)
    seconds = time.monotonic() - began
    _check(not found.stdout)
    return {"seconds": seconds}


def torch_load(path: str, original: str, name: str, mapped: str) -> Result:
    """`torch.load` of a dict of tensors, and the sum of the one that is named."""
    import torch

    began = time.monotonic()
    found = torch.load(path, mmap=mapped == "mmap", weights_only=True)[name]
    found.sum()
    seconds = time.monotonic() - began
    _check(torch.equal(found, torch.load(original, mmap=True, weights_only=True)[name]))
    return {"seconds": seconds}


def safetensors(path: str, original: str, *names: str) -> Result:
    """`safe_open`, and the sums of the tensors that are named."""
    from safetensors import safe_open

    began = time.monotonic()
    with safe_open(path, "numpy") as file:
        found = [file.get_tensor(name) for name in names]
    for tensor in found:
        tensor.sum()
    seconds = time.monotonic() - began
    with safe_open(original, "numpy") as file:
        _check(
            all((tensor == file.get_tensor(name)).all() for name, tensor in zip(names, found, strict=True))
        )
    return {"seconds": seconds}


def shard(path: str, original: str) -> Result:
    """All tensors of the second shard, as the index beside it says."""
    from safetensors.numpy import load_file

    began = time.monotonic()
    with open(path) as file:
        names = sorted(set(json.load(file)["weight_map"].values()))
    found = load_file(os.path.join(os.path.dirname(path), names[1]))
    seconds = time.monotonic() - began
    right = load_file(os.path.join(os.path.dirname(original), names[1]))
    _check(found.keys() == right.keys() and all((found[name] == right[name]).all() for name in right))
    return {"seconds": seconds}


def distcp(path: str, original: str) -> Result:
    """`torch.distributed.checkpoint.load` of one tensor."""
    import torch
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint import FileSystemReader

    def load(directory: str) -> Any:
        metadata = FileSystemReader(directory).read_metadata().state_dict_metadata
        name = sorted(metadata)[len(metadata) // 2]
        state = {name: torch.empty(metadata[name].size)}
        dcp.load(state, checkpoint_id=directory, no_dist=True)
        return state[name]

    began = time.monotonic()
    found = load(os.path.dirname(path))
    seconds = time.monotonic() - began
    _check(torch.equal(found, load(os.path.dirname(original))))
    return {"seconds": seconds}


def npy(path: str, original: str) -> Result:
    """The sum of a hundredth of a mapped array, in its middle."""
    import numpy

    return _alike(lambda file: numpy.load(file, mmap_mode="r")[500:510].copy(), path, original)


def npz(path: str, original: str) -> Result:
    """One array of many."""
    import numpy

    def load(file: str) -> Any:
        with numpy.load(file) as arrays:
            return arrays[sorted(arrays)[len(arrays) // 2]]

    return _alike(load, path, original)


def zipped(path: str, original: str) -> Result:
    """One member of many."""
    import zipfile

    import numpy

    def load(file: str) -> Any:
        with zipfile.ZipFile(file) as members:
            names = sorted(members.namelist())
            return numpy.frombuffer(members.read(names[len(names) // 2]), numpy.uint8)

    return _alike(load, path, original)


def hdf5(path: str, original: str) -> Result:
    """One dataset of many."""
    import h5py

    def load(name: str) -> Any:
        with h5py.File(name, "r") as file:
            return file[sorted(file)[len(file) // 2]][:]

    return _alike(load, path, original)


def parquet(path: str, original: str) -> Result:
    """One column of many."""
    from pyarrow import parquet as files

    def load(name: str) -> Any:
        with files.ParquetFile(name) as file:
            names = file.schema_arrow.names
            return file.read([names[len(names) // 2]]).column(0).to_numpy()

    return _alike(load, path, original)


def _alike(load: Callable[[str], Any], path: str, original: str) -> Result:
    """Time what `load` gives of one file, and compare it with what it gives of the other."""
    began = time.monotonic()
    found = load(path)
    seconds = time.monotonic() - began
    _check((found == load(original)).all() and len(found) > 0)
    return {"seconds": seconds}


def _check(right: bool) -> None:
    if not right:
        raise SystemExit("wrong bytes")


PROGRAMS: dict[str, Callable[..., Any]] = {
    program.__name__: program
    for program in (
        *(read, drain, first, part, pieces, singly, together),
        *(in_turn, copytree, git_status),
        *(torch_load, safetensors, shard, distcp, npy, npz, zipped, hdf5, parquet),
    )
}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))
