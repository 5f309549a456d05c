"""What `artisync ls` lists: experiments, or the files of some. On the event loop's thread."""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from vfs.base.each import each
from vfs.base.errors import ArtisyncError, LinkError
from vfs.base.slices import SLICE
from vfs.commands.patterns import expand
from vfs.commands.reports import Report
from vfs.files import experiments
from vfs.files.node import Kind, Node
from vfs.files.records import pins_of
from vfs.files.xattrs import cached_bytes
from vfs.stack import Stack

Row = dict[str, Any]
Unlisted: TypeAlias = "list[tuple[Node, ArtisyncError]]"


async def listing(stack: Stack, paths: Sequence[str]) -> AsyncIterator[Report]:
    """A row for each experiment, or for each file at and below `paths` (relative to the root; patterns are expanded).

    Yields "rows", some at a time, since very many in one answer would hold the loop; at the end "online": whether all of it is
    what the server says now. Raises NoSuchExperiment, NoSuchPath, Unreachable.
    """
    unlisted: Unlisted = []
    pinned = {path for _, path in await stack.cache.records(pins_of(stack.tree.lineages.identity))}
    names = await expand(stack.tree, paths)
    rows = [] if names else await _experiments(stack, unlisted, pinned)
    for name in names:
        async for row in _files(stack, name, unlisted, pinned, several=len(names) > 1):
            rows.append(row)
            if len(rows) == SLICE:
                yield {"rows": rows}
                rows = []
    yield {"rows": rows}
    silent = any(isinstance(error, LinkError) for _, error in unlisted)
    yield {"online": stack.remote.link.online and not silent}


async def _experiments(stack: Stack, unlisted: Unlisted, pinned: set[bytes]) -> list[Row]:
    found = await experiments.experiments(stack.tree)
    summaries = await each(
        found.items(), lambda one: experiments.summary(stack.tree, *one, unlisted), experiments.TOGETHER
    )
    tops = {path.partition(b"/")[0] for path in pinned}
    return [{**asdict(one), "pinned": os.fsencode(one.name) in tops} for one in summaries]


async def _files(
    stack: Stack, path: str, unlisted: Unlisted, pinned: set[bytes], *, several: bool
) -> AsyncIterator[Row]:
    tree = stack.tree
    top = await experiments.find_path(tree, path)
    if top.kind is not Kind.DIRECTORY:
        yield await _row(stack, top, path, pinned)
        return
    async for node in experiments.walk(tree, top, unlisted):
        if node.kind in (Kind.FILE, Kind.SYMLINK):
            name = os.fsdecode(posixpath.relpath(node.path, top.path))
            yield await _row(stack, node, posixpath.join(path, name) if several else name, pinned)


async def _row(stack: Stack, node: Node, name: str, pinned: set[bytes]) -> Row:
    symlink = node.kind is Kind.SYMLINK
    return {
        "name": name + (f" -> {os.fsdecode(node.target)}" if symlink else ""),
        "size": 0 if symlink else node.latest.size,
        "changed": float(node.latest.mtime),
        "cached": 0 if symlink else await cached_bytes(stack.tree, node),
        "pinned": node.relative in pinned,
    }
