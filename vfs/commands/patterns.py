"""Patterns in paths of the server: `exp-gpt*`, `exp-1/checkpoints/epoch_?.pt`. On the event loop's thread."""

from __future__ import annotations

import fnmatch
import os
import posixpath
from collections.abc import Iterable

from vfs.base.errors import NoSuchPath, NotDirectory
from vfs.files.experiments import resolved
from vfs.files.node import Kind
from vfs.files.tree import Tree


def is_pattern(path: str) -> bool:
    """Whether it may stand for several names."""
    return any(mark in path for mark in "*?[")


async def expand(tree: Tree, paths: Iterable[str]) -> list[str]:
    """The paths, each pattern replaced by the names that match, in order, but for links that lead nowhere; a word that is a name
    stands for itself.

    Raises NoSuchPath for a pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        if not is_pattern(path):
            found[path] = None
            continue
        below = [""]
        for word in path.strip("/").split("/"):
            below = [inner for above in below for inner in await _matching(tree, above, word)]
        if not below:
            raise NoSuchPath(f"nothing on the server matches {path!r}")
        found |= dict.fromkeys(below)
    return list(found)


async def _matching(tree: Tree, above: str, word: str) -> list[str]:
    try:
        top = await tree.find(os.fsencode(above))
    except (NoSuchPath, NotDirectory):  # a link that leads nowhere
        return []
    if top.kind is not Kind.DIRECTORY:
        return []
    names = {os.fsdecode(node.name): node for node in await tree.listing(top)}
    if word in names:
        return [posixpath.join(above, word)]
    hidden = word.startswith(".")
    return [
        posixpath.join(above, name)
        for name in sorted(names)
        if fnmatch.fnmatchcase(name, word)
        and name.startswith(".") <= hidden
        and await resolved(tree, names[name], sure=True) is not None
    ]
