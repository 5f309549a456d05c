"""What lies on the server: files like those of a training, old enough to be settled."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path
from typing import Any

from tests.lab.mounted import settle
from vfs.commands.demo import checkpoint, events

TENSOR_SHAPE = (256, 256)
TENSOR_BYTES = 4 * TENSOR_SHAPE[0] * TENSOR_SHAPE[1]
TAGS = 4
"""Scalars per step."""
PARTS = 20
"""Of which one is read."""
_PIECE = 16 << 20
_BEGAN = 1_700_000_000


def tensor_name(index: int) -> str:
    """The name of a tensor of `torch_file` and of `safetensors_file`."""
    return f"layers.{index:04}.weight"


def random_file(path: Path, size: int) -> None:
    """A file that cannot be compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - start)))
    settle(path)


def sparse_file(path: Path, size: int) -> None:
    """A file of zeros that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    settle(path)


def torch_file(tensors: int, path: Path, times: int = 1) -> None:
    """A checkpoint of so many tensors; each of the shape of `TENSOR_SHAPE`, so many `times` as long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = TENSOR_SHAPE
    shape = (rows * times, columns)
    content = {
        tensor_name(index): checkpoint.DemoTensor(shape, _floats(index) * times) for index in range(tensors)
    }
    checkpoint.write(path, content)
    settle(path)


def safetensors_file(tensors: int, path: Path) -> None:
    """The same tensors as safetensors: the header's length, the header, the tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        tensor_name(index): {
            "dtype": "F32",
            "shape": TENSOR_SHAPE,
            "data_offsets": (index * TENSOR_BYTES, (index + 1) * TENSOR_BYTES),
        }
        for index in range(tensors)
    }
    head = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for index in range(tensors):
            file.write(_floats(index))
    settle(path)


def shards(length: int, index: Path) -> None:
    """Four safetensors shards of `length` bytes each, and the index that Hugging Face puts beside them."""
    tensors = max(1, length // TENSOR_BYTES)
    names = [f"model-{number + 1:05}-of-00004.safetensors" for number in range(4)]
    for name in names:
        safetensors_file(tensors, index.with_name(name))
    weights = {f"{name}/{tensor_name(n)}": name for name in names for n in range(tensors)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    settle(index)


def distributed(length: int, metadata: Path) -> None:
    """A torch.distributed.checkpoint directory of `length` bytes: `.metadata` and what it describes."""
    import torch
    from torch.distributed import checkpoint as dcp

    count = length // PARTS // 4
    tensors = {part_name(n): torch.arange(count, dtype=torch.float32) + n for n in range(PARTS)}
    dcp.save(tensors, checkpoint_id=metadata.parent, no_dist=True)
    for path in metadata.parent.iterdir():
        settle(path)


def npy(length: int, path: Path) -> None:
    """One array of 1,000 rows."""
    import numpy

    path.parent.mkdir(parents=True, exist_ok=True)
    numpy.save(path, numpy.arange(length // 4 // 1000 * 1000, dtype=numpy.float32).reshape(1000, -1))
    settle(path)


def npz(length: int, path: Path) -> None:
    """`PARTS` arrays, each a member of a zip file."""
    import numpy

    path.parent.mkdir(parents=True, exist_ok=True)
    numpy.savez(path, **_arrays(length))
    settle(path)


def hdf5(length: int, path: Path) -> None:
    """`PARTS` datasets, in chunks."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in _arrays(length).items():
            file.create_dataset(name, data=values, chunks=(min(len(values), 1 << 16),))
    settle(path)


def parquet(length: int, path: Path) -> None:
    """`PARTS` columns that do not compress, in four row groups."""
    import pyarrow
    from pyarrow import parquet as files

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(_arrays(length))
    files.write_table(
        table, path, compression="none", use_dictionary=False, row_group_size=-(-len(table) // 4)
    )
    settle(path)


def part_name(number: int) -> str:
    """The name of an array, a dataset, a column."""
    return f"part-{number:02}"


def _arrays(length: int) -> dict[str, Any]:
    import numpy

    count = length // PARTS // 4
    return {part_name(n): numpy.arange(n, n + count, dtype=numpy.float32) for n in range(PARTS)}


def empty_files(place: Path, count: int) -> None:
    """So many files in one directory."""
    place.mkdir(parents=True)
    for number in range(count):
        (place / f"file-{number:05}").touch()


def experiments(root: Path, count: int) -> int:
    """So many small experiments; how many files they have in all."""
    layout = {"checkpoints": 4, "tensorboard": 2, "logs": 1}
    for number in range(count):
        for directory, files in layout.items():
            place = root / f"exp-{number:03}" / directory
            place.mkdir(parents=True)
            for name in range(files):
                (place / f"file-{name}").write_text("x")
                settle(place / f"file-{name}")
    return count * sum(layout.values())


def small_files(place: Path, count: int) -> None:
    """So many files of 1 to 20 kB in directories of fifty."""
    sizes = random.Random(500)
    for number in range(count):
        random_file(place / f"part-{number // 50:02}" / f"file-{number:03}", sizes.randrange(1000, 20_000))


def runs(root: Path, count: int, steps: int) -> None:
    """So many experiments with an event file of `TAGS` scalars at each step."""
    for number in range(count):
        place = root / f"run-{number:02}" / "tensorboard"
        place.mkdir(parents=True)
        path = place / events.file_name(_BEGAN, "host", number)
        values = [{f"tag-{tag}": step * 0.5 + tag for tag in range(TAGS)} for step in range(steps)]
        records = [events.scalars(_BEGAN + step, step, scalars) for step, scalars in enumerate(values)]
        events.append(path, events.file_version(_BEGAN) + b"".join(records))
        settle(path)


def _floats(seed: int) -> bytes:
    """Elements of one tensor: integers as float32, in an order of their own."""
    count = TENSOR_BYTES // 4
    start = seed % 97
    return struct.pack(f"<{count}f", *range(start, start + count))
