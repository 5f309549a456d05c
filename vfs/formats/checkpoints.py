"""What a checkpoint's pickle lists, by name: `model.layer1.weight`, `epoch`. Pure; runs no pickle.

PyTorch's archives keep it in `…/data.pkl`. The format before them (torch < 1.6) is a row of pickles: a magic
number, a version, facts of the system, the objects, the keys of the storages; then the storages, each with
its length in elements as u64. Source: torch/serialization.py, `_legacy_save`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vfs.formats.api import Misfit
from vfs.formats.pickles import Made, Mapping, Reference, Stream, Symbol, Symbolic, load
from vfs.formats.rebuild import Tensor, rebuild

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

MOST_WORK = 500_000
"""Things that are looked at; a real checkpoint of 10,000 tensors and its optimizer has some 100,000."""

MOST_TENSORS = 200_000
MOST_VALUES = 1000
DEEPEST = 64
LONGEST_NAME = 300
LIST_SHOWN = 16
"""Longer lists of numbers (the indices of an optimizer's parameters, say) are told by their length."""

Value = bool | int | float | str | None


@dataclass(slots=True)
class Outline:
    """The tensors and the plain values of a pickle, in its order. `cut` when there were too many to list."""

    tensors: list[tuple[str, Tensor]] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    cut: bool = False

    @property
    def stored(self) -> dict[str, int]:
        """Bytes of each storage; tensors may share one."""
        return {t.storage: t.stored for _, t in self.tensors if t.storage is not None}


def outline(root: Symbolic) -> Outline:
    """Walk what a pickle is made of. What refers to itself, or to one thing many times, is walked within
    limits.
    """
    told = Outline()
    todo: list[tuple[str, int, Symbolic]] = [("", 0, _model(root))]
    work = 0
    while todo:
        name, depth, node = todo.pop()
        work += _weight(node) * (1 + len(name) // 32)
        if work > MOST_WORK:
            told.cut = True
            break
        if isinstance(node, Tensor):
            if len(told.tensors) == MOST_TENSORS:
                told.cut = True
                break
            told.tensors.append((name or "(itself)", node))
        elif (inner := _inner(node)) and depth < DEEPEST:
            shown = [(f"{name}.{key}" if name else key, depth + 1, child) for key, child in inner]
            todo.extend((key[:LONGEST_NAME], level, child) for key, level, child in reversed(shown))
            if isinstance(node, Made):
                _note(told, name, node)
        else:
            told.cut |= bool(inner)
            _note(told, name, node)
    return told


def _model(root: Symbolic) -> Symbolic:
    """Of a distributed checkpoint's metadata, the part that lists the model; the rest says where its bytes
    are.
    """
    if (
        isinstance(root, Made)
        and root.name.endswith(".metadata.Metadata")
        and isinstance(root.state, Mapping)
    ):
        return root.state.get("state_dict_metadata")
    return root


def _weight(node: Symbolic) -> int:
    match node:
        case Mapping(pairs):
            return 1 + len(pairs)
        case Made():
            state = 0 if isinstance(node.state, Made) else _weight(node.state)
            return 1 + len(node.args) + len(node.elements) + len(node.pairs) + state
        case list() | tuple():
            return 1 + len(node)
    return 1


def _inner(node: Symbolic) -> list[tuple[str, Symbolic]]:
    match node:
        case Mapping(pairs):
            return [(_key(key), value) for key, value in pairs]
        case Made():
            held = list(_parts(node.args)) + list(_parts(node.elements))
            held += [(_key(key), value) for key, value in node.pairs]
            return held + (
                _inner(node.state) if not isinstance(node.state, Made) else [("state", node.state)]
            )
        case list() | tuple():
            return list(_parts(node))
    return []


def _parts(values: Iterable[Symbolic]) -> Iterator[tuple[str, Symbolic]]:
    numbered = [(str(i), value) for i, value in enumerate(values)]
    if len(numbered) > LIST_SHOWN:
        return ((i, v) for i, v in numbered if isinstance(v, Tensor | Mapping | Made | list | tuple))
    return iter(numbered)


def _key(key: Symbolic) -> str:
    if isinstance(key, str):
        return key[:LONGEST_NAME]
    shown = _shown(key)
    return str(shown)


def _note(told: Outline, name: str, node: Symbolic) -> None:
    if not name:
        return
    if len(told.values) < MOST_VALUES:
        told.values[name] = _shown(node)
    else:
        told.cut = True


def _shown(node: Symbolic) -> Value:
    match node:
        case bool() | float() | None:
            return node
        case int():
            return node if abs(node) < 1 << 64 else "<a large integer>"
        case str():
            return node if len(node) <= 200 else node[:200] + "…"
        case bytes() | bytearray():
            return f"<{len(node)} bytes>"
        case list() | tuple():
            return f"<{len(node)} values>" if len(node) else "<empty>"
        case Mapping():
            return f"<{len(node.pairs)} entries>" if node.pairs else "<empty>"
        case Made() | Symbol():
            return f"<{node.name[:200]}>"
        case Reference():
            return "<a storage>"
    return f"<{type(node).__name__}>"


def legacy(stream: Stream) -> tuple[Outline, int]:
    """The outline of a checkpoint of the old format, and the size in bytes that the file must have. Raises
    Misfit.
    """
    for _ in range(3):
        load(stream, rebuild)
    told = outline(load(stream, rebuild))
    keys = load(stream, rebuild)
    if not isinstance(keys, list):
        raise Misfit("no list of storages")
    stored = told.stored
    return told, stream.tell() + sum(8 + stored.get(key, 0) for key in keys if isinstance(key, str))


def elements(told: Outline) -> int:
    """Elements of all tensors together."""
    return sum(math.prod(t.shape) for _, t in told.tensors)
