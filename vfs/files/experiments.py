"""Experiments: the directories below the root; how they are named on a command line, and what is in one.

Used on the event loop's thread, on the same tree as the mount's.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import posixpath
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from vfs.base.errors import (
    AmbiguousExperiment,
    ArtisyncError,
    EndlessSymlink,
    LinkError,
    NoSuchExperiment,
    NoSuchPath,
    NotDirectory,
    Unreachable,
)
from vfs.base.slices import slices
from vfs.files.node import Kind, Node
from vfs.files.symlinks import NOWHERE
from vfs.files.tree import Tree
from vfs.files.xattrs import cached_bytes

AT_ONCE = 64
"""Directories of one experiment listed at a time."""
TOGETHER = 32
"""Experiments looked through at a time."""
WALKED = 256
"""Names of a directory that are passed on, or looked up in the cache, between two turns of others."""
ALIKE = 0.75
"""The likeness to the typed word, from 0 to 1, from which a name is suggested."""
CHECKPOINTS = (b".pt", b".pth", b".ckpt", b".safetensors", b".distcp")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that `name` may be a misspelling of, the likeliest first; three at most."""

    word = name.lower()

    def likeness(other: str) -> float:
        begins, inside = word and other.lower().startswith(word), len(word) > 2 and word in other.lower()
        whole = other.lower()
        begin = whole[: len(word)] if len(word) > 5 else whole
        ratio = max(difflib.SequenceMatcher(None, word, one).ratio() for one in (whole, begin))
        return 1.0 + ratio if begins else max(ratio, ALIKE if inside else 0.0)

    likely = sorted((-likeness(other), other) for other in names)
    return [other for distance, other in likely[:3] if distance <= -ALIKE]


def choose(name: str, names: Sequence[str]) -> str:
    """The experiment called `name`, or the only one whose name begins so.

    Raises NoSuchExperiment with the nearest names, AmbiguousExperiment when several begin so.
    """
    name = name.strip("/")
    if name in names:
        return name
    begin = sorted(other for other in names if name and other.startswith(name))
    if len(begin) == 1:
        return begin[0]
    if begin:
        more = ", …" if len(begin) > 5 else ""
        raise AmbiguousExperiment(f"{name} is ambiguous: {', '.join(begin[:5])}{more}")
    like = nearest(name, names)
    raise NoSuchExperiment(
        f"there is no experiment {name!r} on the server"
        + (f"; did you mean {' or '.join(like)}?" if like else "")
    )


async def experiments(tree: Tree, *, sure: bool = False) -> dict[str, Node]:
    """All directories of the root by name, in order, symlinks to directories included.

    A symlink that cannot be followed just now is left out; with `sure` that raises Unreachable.
    """
    found: dict[str, Node] = {}
    for node in await tree.listing(tree.root):
        shown = await resolved(tree, node, sure=sure)
        if shown is not None and shown.kind is Kind.DIRECTORY:
            found[os.fsdecode(node.name)] = shown
    return dict(sorted(found.items()))


async def find_path(tree: Tree, path: str) -> Node:
    """The node at `experiment/…`, or of a file beside the experiments; raises NoSuchExperiment for its first word, NoSuchPath
    for the rest, EndlessSymlink."""
    path = path.strip("/")
    first, _, rest = path.partition("/")
    try:
        if first:
            return await tree.find(os.fsencode(path), sure=True)
        raise NoSuchPath(path)
    except EndlessSymlink:
        raise
    except (NoSuchPath, NotDirectory) as error:
        if os.fsencode(first) == NOWHERE:  # where a link that dangles leads to in a mount
            raise NoSuchPath(f"a symbolic link leads to {rest}, which is not on the server") from error
        name = choose(first, list(await experiments(tree)))
        if name != first:
            return await find_path(tree, f"{name}/{rest}")
        raise NoSuchPath(f"there is no {path} on the server") from error


async def resolved(tree: Tree, node: Node, *, sure: bool = False) -> Node | None:
    """What a symlink inside the root leads to; None if that is not known. With `sure`, an unreachable server raises."""
    if node.kind is not Kind.SYMLINK:
        return node
    try:
        return await tree.find(node.relative)
    except ArtisyncError as error:
        if sure and isinstance(error, LinkError):
            raise
        return None


async def walk(
    tree: Tree,
    top: Node,
    unlisted: list[tuple[Node, ArtisyncError]] | None = None,
    *,
    depth: int | None = None,
) -> AsyncIterator[Node]:
    """Everything below a directory, a directory before what is in it; many directories are listed at a time.

    `depth`: levels, all if None.

    Raises what the server says of `top`. A directory further down that cannot be listed goes to `unlisted`; without that,
    one that the server keeps closed is left out, and Unreachable is raised for one that cannot be asked for.
    """
    listed = await tree.listing(top)
    running: dict[asyncio.Task[list[Node]], Node] = {}
    todo: list[Node] = []
    try:
        while True:
            async for part in slices(listed, WALKED):
                for node in part:
                    yield node
            todo += [
                node
                for node in listed
                if node.kind is Kind.DIRECTORY and (depth is None or node.depth - top.depth < depth)
            ]
            listed = []
            while todo and len(running) < AT_ONCE:
                directory = todo.pop()
                running[asyncio.ensure_future(tree.listing(directory))] = directory
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                directory = running.pop(task)
                try:
                    listed += task.result()
                except (ArtisyncError, TimeoutError) as error:
                    problem = error if isinstance(error, ArtisyncError) else Unreachable()
                    if unlisted is None and isinstance(problem, LinkError):
                        raise problem from error
                    if unlisted is not None and not isinstance(problem, NoSuchPath):
                        unlisted.append((directory, problem))
    finally:
        for task in running:
            task.cancel()


@dataclass(slots=True)
class Summary:
    """What is in one experiment. Sizes in bytes, times in seconds since the epoch of the server's clock."""

    name: str
    size: int = 0
    files: int = 0
    cached: int = 0
    """Bytes of it that are in the cache."""
    changed: float = 0.0
    """When a file in it was last written."""
    checkpoint: str | None = None
    """The newest checkpoint, relative to the experiment."""
    checkpoint_changed: float = 0.0


async def summary(
    tree: Tree, name: str, top: Node, unlisted: list[tuple[Node, ArtisyncError]] | None = None
) -> Summary:
    """Look through one experiment, asking for its listings only. `unlisted`, and what is raised: see `walk`."""
    found = Summary(name)
    nodes = [node async for node in walk(tree, top, unlisted) if node.kind is Kind.FILE]
    async for part in slices(nodes, WALKED):
        cached = await asyncio.gather(*(cached_bytes(tree, node) for node in part))
        for node, here in zip(part, cached, strict=True):
            mtime = float(node.latest.mtime)
            found.files += 1
            found.size += node.latest.size
            found.cached += min(here, node.latest.size)
            found.changed = max(found.changed, mtime)
            if node.name.endswith(CHECKPOINTS) and mtime >= found.checkpoint_changed:
                found.checkpoint = os.fsdecode(posixpath.relpath(node.path, top.path))
                found.checkpoint_changed = mtime
    return found


def seconds_ago(tree: Tree, mtime: float) -> float:
    """Seconds since `mtime`, by the server's clock if that is known, else by ours."""
    now = tree.remote.link.server_time
    return max(0.0, (time.time() if now is None else now) - mtime)
