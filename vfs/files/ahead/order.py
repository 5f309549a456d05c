"""The order in which a program goes through directories: sorted, or as the server lists the names. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from vfs.files.node import Kind, Node
from vfs.remote.api import MOST_AHEAD


def suffix_of(node: Node) -> bytes:
    """`.png` of `1.png`; empty where there is none."""
    return os.path.splitext(node.name)[1]


def row_of(directory: Node, by_name: bool) -> list[Node]:
    """The children of a directory, sorted or as listed; a very large directory as listed only."""
    row = list(directory.children.values())
    if by_name and len(row) <= MOST_AHEAD:
        row.sort(key=lambda one: one.name)
    return row


def files(row: Iterable[Node]) -> list[Node]:
    """The files among nodes."""
    return [one for one in row if one.kind is Kind.FILE]


def directories(row: Iterable[Node]) -> list[Node]:
    """The directories among nodes, without those that stand in place of a symlink."""
    return [one for one in row if one.kind is Kind.DIRECTORY and not one.follow]


def later(row: list[Node], node: Node) -> list[Node]:
    """What comes after `node` in its row; nothing where it is gone from there."""
    return row[row.index(node) + 1 :] if node in row else []


def below(top: Node, row: Callable[[Node], list[Node]]) -> Iterator[Node]:
    """The directories below `top`, depth first. `row` gives those in one, and is asked when the one before was passed."""
    rows = [iter(row(top))]
    while rows:
        child = next(rows[-1], None)
        if child is None:
            rows.pop()
        else:
            yield child
            rows.append(iter(row(child)))


def behind(node: Node, top: Node, row: Callable[[Node], list[Node]]) -> Iterator[tuple[Node, list[Node]]]:
    """The directories that `node` is in, up to `top`, each with those in its row that come after the way to `node`."""
    while node is not top and node.parent is not None:
        yield node.parent, later(row(node.parent), node)
        node = node.parent


def order_of(before: Node, node: Node) -> tuple[bool, bytes | None] | None:
    """The order in which `node` comes next after `before`: whether sorted or as listed, and of which suffix (None: any).

    Both are files, or directories. None if it is the next in neither order.
    """
    directory, suffix = node.parent, suffix_of(node)
    if directory is None or before.parent is not directory or len(directory.children) > MOST_AHEAD:
        return None
    alike = directories if node.kind is Kind.DIRECTORY else files
    names = [one.name for one in alike(directory.children.values())]
    for end in (None, suffix) if suffix and before.name.endswith(suffix) else (None,):
        if end is not None:
            names = [name for name in names if name.endswith(end)]
        if min((name for name in names if name > before.name), default=None) == node.name:
            return True, end
        if before.name in names and names[names.index(before.name) + 1 :][:1] == [node.name]:
            return False, end
    return None
