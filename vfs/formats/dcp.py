"""PyTorch's distributed checkpoints: a directory of shards (`.distcp`), and `.metadata`, which lists what is where in them.

A shard is a row of archives, one for each tensor's chunk or value, as `torch.save` makes them. Sources:
torch/distributed/checkpoint/metadata.py and filesystem.py (`_StorageInfo`). Pure; runs no pickle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from vfs.base.units import count, elements
from vfs.formats import zips
from vfs.formats.advisor import UNFIT, run
from vfs.formats.api import Misfit
from vfs.formats.checkpoints import outline
from vfs.formats.limits import LONGEST_NAME, Limits
from vfs.formats.pickles import Made, Mapping, Stream, Symbolic, load
from vfs.formats.rebuild import Tensor, dtype_of, itemsize, rebuild, shape_of
from vfs.formats.report import Report, TensorInfo

Read: TypeAlias = Callable[[int, int], bytes]
Beside: TypeAlias = "Callable[[str], tuple[int, Read] | None]"
"""The size of another file in the same directory, and how to read it until the next is asked for; None if it is not there."""

METADATA = ".metadata"
SHARD = ".distcp"
MOST_VALUES = 100
LARGEST_VALUE = 1 << 20
MOST_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a tensor, or a value (`tensor` is None), at a place in a shard."""

    name: str
    tensor: Tensor | None
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int


def look_at_metadata(report: Report, read: Read, limits: Limits, beside: Beside) -> None:
    """What a `.metadata` says of the whole checkpoint, and whether the shards are there."""
    report.kind = "dcp"
    found = _pieces(Stream(read, 0, report.size), limits)
    tensors = {piece.name: piece.tensor for piece in found if piece.tensor is not None}
    report.tensors = [TensorInfo(name, t.dtype, t.shape, t.nbytes) for name, t in tensors.items()]
    shards: dict[str, list[Piece]] = defaultdict(list)
    for piece in found:
        shards[piece.file].append(piece)
    report.complete = True
    for file in list(shards)[:MOST_SHARDS]:
        other = beside(file) if _is_name(file) else None
        size, read_shard = other if other is not None else (0, None)
        report.size += size
        if read_shard is None or size < _end(shards[file]):
            report.complete = False
            report.notes.append(f"{file} is {'missing' if read_shard is None else 'cut short'}.")
        else:
            _add_values(report, shards[file], read_shard, limits)
    report.notes.append(
        f"{count(len(shards), 'shard')}: {', '.join(sorted(shards)[:8])}{', …' if len(shards) > 8 else ''}"
    )


def look_at_shard(report: Report, read: Read, limits: Limits, beside: Beside) -> None:
    """What is in one shard, as the `.metadata` beside it lists it."""
    report.kind = "dcp-shard"
    metadata = beside(METADATA)
    if metadata is None:
        report.notes.append(f"Its contents are listed in {METADATA}, which is missing.")
        return
    size, read_metadata = metadata
    file = report.name.rpartition("/")[2]
    found = [p for p in _pieces(Stream(read_metadata, 0, size), limits) if p.file == file]
    for piece in found:
        if piece.tensor is not None:
            nbytes = itemsize(piece.tensor.dtype) * elements(piece.shape)
            report.tensors.append(TensorInfo(piece.name, piece.tensor.dtype, piece.shape, nbytes))
    end = _end(found)
    report.complete = report.size >= end
    if not report.complete:
        report.notes.append(f"{count(end - report.size, 'byte')} missing.")
    _add_values(report, found, read, limits)


def _end(found: list[Piece]) -> int:
    """How long the shard of these pieces must be."""
    return max((piece.offset + piece.length for piece in found), default=0)


def _add_values(report: Report, found: list[Piece], read: Read, limits: Limits) -> None:
    for piece in found:
        if piece.tensor is not None or len(report.values) >= MOST_VALUES:
            continue
        try:
            outline(report, Mapping([(piece.name, _value(piece, read, limits))]), limits)
        except UNFIT:
            report.values[piece.name] = "<unreadable>"


def _value(piece: Piece, read: Read, limits: Limits) -> Symbolic:
    """What the archive at a piece's place was made of."""
    if not 0 < piece.length <= LARGEST_VALUE:
        raise Misfit("too large")

    def inner(offset: int, length: int) -> bytes:
        return read(piece.offset + offset, min(length, piece.length - offset))

    where = run(zips.find_directory(piece.length), inner)
    pickled = next(m for m in run(zips.listing(where, 100, limits), inner) if m.name.endswith(b"/data.pkl"))
    start = run(zips.data_offset(pickled), inner)
    return load(Stream(inner, start, start + pickled.packed), rebuild, limits)


def _pieces(stream: Stream, limits: Limits) -> list[Piece]:
    """What a `.metadata` lists. Raises Misfit, TooLarge."""
    root = load(stream, rebuild, limits)
    listed, stored = (_state(root).get(key) for key in ("state_dict_metadata", "storage_data"))
    if not isinstance(listed, Mapping) or not isinstance(stored, Mapping):
        raise Misfit("it is no list of a distributed checkpoint")
    tensors: dict[str, tuple[Tensor, dict[tuple[int, ...], tuple[int, ...]]]] = {}
    for name, about in listed.pairs:
        limits.take(500, steps=10)
        tensor = _described(_state(about))
        if _is_short(name) and tensor is not None:
            tensors[name] = tensor, dict(_chunks(about, limits))
    found = []
    for index, place in stored.pairs:
        limits.take(500, steps=10)
        name, file = _state(index).get("fqn"), _state(place).get("relative_path")
        offset, length = _state(place).get("offset"), _state(place).get("length")
        if not (_is_short(name) and _is_short(file) and isinstance(offset, int) and isinstance(length, int)):
            raise Misfit("its list of storages cannot be read")
        tensor, chunks = tensors.get(name, (None, {}))
        at = shape_of(_state(index).get("offset"))
        shape = chunks.get(at) if at is not None else None
        if shape is None:
            shape = tensor.shape if tensor is not None else ()
        found.append(Piece(name, tensor, shape, file, offset, length))
    return found


def _described(state: Mapping) -> Tensor | None:
    """A tensor by its attributes; its bytes are in the shards. None if it is none."""
    shape, properties = shape_of(state.get("size")), state.get("properties")
    if shape is None:
        return None
    told = properties.state if isinstance(properties, Made) else None
    if isinstance(told, Mapping):
        return Tensor(dtype_of(told.get("dtype")), shape)
    return Tensor(dtype_of(told[0] if isinstance(told, tuple) and told else None), shape)


def _chunks(about: Symbolic, limits: Limits) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The offsets and the sizes of each chunk of a tensor."""
    chunks = _state(about).get("chunks")
    for chunk in chunks if isinstance(chunks, list) else ():
        limits.take(200, steps=10)  # also for a list that many tensors share
        offsets, sizes = shape_of(_state(chunk).get("offsets")), shape_of(_state(chunk).get("sizes"))
        if offsets is not None and sizes is not None:
            yield offsets, sizes


def _state(node: Symbolic) -> Mapping:
    """The attributes of an object; none if it is something else."""
    return node.state if isinstance(node, Made) and isinstance(node.state, Mapping) else Mapping()


def _is_short(name: Symbolic) -> TypeGuard[str]:
    """Whether it is a text that can be shown: each may be named in many notes."""
    return isinstance(name, str) and len(name) <= LONGEST_NAME


def _is_name(file: str) -> bool:
    """Whether it names a file of the same directory; who made the checkpoint may have written anything."""
    return "/" not in file and "\0" not in file and file not in ("", ".", "..")
