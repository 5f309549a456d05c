"""What a checkpoint's pickle lists, by name: `model.layer1.weight`, `epoch`. Pure; runs no pickle.

PyTorch's archives keep it in `…/data.pkl`. The format before them (torch < 1.6) is a row of pickles: a magic
number, a version, facts of the system, the objects, the keys of the storages; then the storages, each with
its length in elements as u64. Source: torch/serialization.py, `_legacy_save`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from vfs.formats.api import Misfit
from vfs.formats.limits import Limits, TooLarge
from vfs.formats.pickles import Made, Mapping, Reference, Stream, Symbol, Symbolic, load
from vfs.formats.rebuild import Tensor, rebuild
from vfs.formats.report import Report, TensorInfo

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

CUT = "It holds more than is listed here."
MOST_VALUES = 1000
DEEPEST = 64
LONGEST_NAME = 300
LIST_SHOWN = 16
"""Longer lists of numbers (the indices of an optimizer's parameters, say) are shown by their length."""

Value = bool | int | float | str | None


def outline(report: Report, root: Symbolic, limits: Limits) -> dict[str, int]:
    """Put the tensors and the plain values of a pickle into the report, in its order. The bytes of each storage, which tensors
    may share.

    What refers to itself, or to one thing many times, is walked within limits: what they leave no room for is cut.
    """
    stored: dict[str, int] = {}
    try:
        cut = _walk(report, stored, root, limits)
    except TooLarge:
        cut = True
    if cut and CUT not in report.notes:
        report.notes.append(CUT)
    return stored


def _walk(report: Report, stored: dict[str, int], root: Symbolic, limits: Limits) -> bool:
    """Whether something was left out."""
    cut = False
    path: list[Iterator[tuple[str, Symbolic]]] = [iter([("", root)])]
    names = [""]
    while path:
        following = next(path[-1], None)
        if following is None:
            path.pop()
            names.pop()
            continue
        key, node = following
        name = (f"{names[-1]}.{key}" if names[-1] else key)[:LONGEST_NAME]
        limits.take(steps=2 + len(name) // 32)
        if isinstance(node, Tensor):
            limits.take(500 + 2 * len(name) + 60 * len(node.shape))
            report.tensors.append(TensorInfo(name or "(itself)", node.dtype, node.shape, node.nbytes))
            if node.storage is not None:
                stored[node.storage] = node.stored
            continue
        inner = _inner(node, limits)
        first = next(inner, None)
        if first is not None and len(path) <= DEEPEST:
            path.append(chain([first], inner))
            names.append(name)
            if not isinstance(node, Made):
                continue
        else:
            cut |= first is not None
        if name and len(report.values) < MOST_VALUES:
            report.values[name] = _shown(node)
        else:
            cut |= bool(name)
    return cut


def _inner(node: Symbolic, limits: Limits) -> Iterator[tuple[str, Symbolic]]:
    match node:
        case Mapping():
            for key, value in node.pairs:
                yield _key(key), value
        case Made():
            yield from _parts(node.args, limits)
            yield from _parts(node.elements, limits)
            for key, value in node.pairs:
                yield _key(key), value
            if isinstance(node.state, Made):
                yield "state", node.state
            else:
                yield from _inner(node.state, limits)
        case list() | tuple():
            yield from _parts(node, limits)


def _parts(values: Sequence[Symbolic], limits: Limits) -> Iterator[tuple[str, Symbolic]]:
    for i, value in enumerate(values):
        limits.take()
        if len(values) <= LIST_SHOWN or isinstance(value, Tensor | Mapping | Made | list | tuple):
            yield str(i), value


def _key(key: Symbolic) -> str:
    return key[:LONGEST_NAME] if isinstance(key, str) else str(_shown(key))


def _shown(node: Symbolic) -> Value:
    match node:
        case bool() | float() | None:
            return node
        case int():
            return node if -1 << 64 < node < 1 << 64 else "<a large integer>"
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


def legacy(report: Report, stream: Stream, limits: Limits) -> int:
    """Put a checkpoint of the old format into the report; the size in bytes that the file must have. Raises Misfit and TooLarge."""
    for _ in range(3):
        load(stream, rebuild, limits)
    root, keys = load(stream, rebuild, limits), load(stream, rebuild, limits)
    if not isinstance(keys, list):
        raise Misfit("no list of storages")
    stored = outline(report, root, limits)
    return stream.tell() + sum(8 + stored.get(key, 0) for key in keys if isinstance(key, str))
