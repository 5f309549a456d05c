"""Cases of programs that read a part of a file whose format they know, all at RTT 50 ms and 1 Gbit/s.

Their figures are the time, and the bytes that came over the link for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import SECONDS, WIRE, Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import MB, far
from tests.bench.scale import Scale, size

_TIMED = {"time": SECONDS, "wire": WIRE}


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    tensors, half = scale.tensors, content.tensor_name(scale.tensors // 2)
    model = f"{tensors * content.TENSOR_BYTES / MB:.0f} MB, {tensors} tensors"
    large = f"{tensors * scale.large_tensor / MB:.0f} MB, {tensors} tensors"
    part = size(scale.part)
    torch, torch_large = partial(content.torch_file, tensors), partial(_large, scale)
    return [
        _case("torch-load", f"torch.load of {model}", "m/model.pt", torch, "torch_load", half, "plain"),
        _case(
            "torch-mmap",
            f"torch.load(mmap=True) of {model}, then one tensor",
            "m/model.pt",
            torch,
            "torch_load",
            half,
            "mmap",
        ),
        _case(
            "torch-mmap-large",
            f"torch.load(mmap=True) of {large}, then one tensor",
            "l/model.pt",
            torch_large,
            "torch_load",
            half,
            "mmap",
        ),
        _case(
            "safetensors",
            f"safe_open of {model}, then one tensor",
            "s/model.safetensors",
            partial(content.safetensors_file, tensors),
            "safetensors",
            half,
        ),
        Case(
            "safetensors-four",
            f"four programs at once: safe_open of {model}, then a hundredth of its tensors each",
            _TIMED,
            _four,
            local=True,
        ),
        _case(
            "shards",
            f"one of four Hugging Face shards of {part} each",
            "h/model.safetensors.index.json",
            partial(content.shards, scale.part),
            "shard",
        ),
        _case(
            "distcp",
            f"torch.distributed.checkpoint.load of one tensor of twenty, {part}",
            "d/.metadata",
            partial(content.distributed, scale.part),
            "distcp",
        ),
        _case(
            "npy",
            f"numpy.load(mmap_mode='r') of {part}, then a hundredth",
            "n/a.npy",
            partial(content.npy, scale.part),
            "npy",
        ),
        _case(
            "npz",
            f"numpy.load of an .npz of {part}, then one array of twenty",
            "n/a.npz",
            partial(content.npz, scale.part),
            "npz",
        ),
        _case(
            "zip",
            f"zipfile, {part}, then one member of twenty",
            "n/a.npz",
            partial(content.npz, scale.part),
            "zipped",
        ),
        _case(
            "hdf5",
            f"h5py, {part}, then one dataset of twenty",
            "n/a.h5",
            partial(content.hdf5, scale.part),
            "hdf5",
        ),
        _case(
            "parquet",
            f"pyarrow, {part}, then one column of twenty",
            "n/a.parquet",
            partial(content.parquet, scale.part),
            "parquet",
        ),
    ]


def _case(
    name: str, title: str, path: str, make: Callable[[Path], object], program: str, *arguments: str
) -> Case:
    return Case(
        name, title, _TIMED, partial(_program, f"formats/{path}", make, program, arguments), local=True
    )


def _program(
    name: str, make: Callable[[Path], object], program: str, arguments: tuple[str, ...], lab: Lab, peer: Peer
) -> Values:
    original = lab.made(name, make)
    return far(lab, peer, original, lambda path: lab.program(program, path, original, *arguments)["seconds"])


def _large(scale: Scale, path: Path) -> None:
    content.torch_file(scale.tensors, path, scale.large_tensor // content.TENSOR_BYTES)


def _four(lab: Lab, peer: Peer) -> Values:
    tensors = lab.scale.tensors
    original = lab.made("formats/s/model.safetensors", partial(content.safetensors_file, tensors))

    def work(path: Path) -> float:
        processes = [
            lab.start(
                "safetensors",
                path,
                original,
                *(content.tensor_name(quarter * tensors // 4 + n) for n in range(max(1, tensors // 100))),
            )
            for quarter in range(4)
        ]
        return max([lab.result(process)["seconds"] for process in processes])

    return far(lab, peer, original, work)
