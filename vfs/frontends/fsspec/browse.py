"""Names, attributes and parts of files by path, as fsspec asks for them. On the event loop's thread.

Raises what the tree and the readers do, and IsADirectoryError for a directory that is to be read.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import posixpath
from collections.abc import Iterable
from typing import Any

from vfs.base.each import each
from vfs.base.errors import ArtisyncError, NoSuchPath, NotDirectory, RemoteError, StaleVersion
from vfs.files.experiments import resolved, walk
from vfs.files.node import Kind, Node
from vfs.files.read_whole import LARGE_AT_ONCE, SMALL, SMALL_AT_ONCE, chunks, with_reader
from vfs.files.reader import Reader
from vfs.files.service import Files

ASKED_AT_ONCE = 64
"""Symlinks, and files that may have grown, that are asked about at a time."""

Info = dict[str, Any]
Span = tuple[str, int | None, int | None]
"""A path, and a part of the file as of a slice: negative numbers count from the end."""


async def info(files: Files, path: str) -> Info:
    """What a path stands for, symlinks followed."""
    return _info(files, path, await files.find(os.fsencode(path)))


async def listing(files: Files, path: str) -> list[Info]:
    """What is in a directory, or the file itself."""
    top = await files.find(os.fsencode(path))
    if top.kind is not Kind.DIRECTORY:
        return [_info(files, path, top)]
    children = files.listing_now(top) or await files.listing(top)
    return await _infos(files, path, top, children.values())


async def below(files: Files, path: str, depth: int | None) -> list[Info]:
    """A path and all that is below it, `depth` levels at most; nothing if there is no such path.

    What may not be listed is left out; raises Unreachable when a directory cannot be asked for.
    """
    try:
        top = await files.find(os.fsencode(path))
    except (NoSuchPath, NotDirectory):
        return []
    if top.kind is not Kind.DIRECTORY:
        return [_info(files, path, top)]
    unlisted: list[tuple[Node, ArtisyncError]] = []
    nodes = [node async for node in walk(files.tree, top, unlisted, depth=depth)]
    for _, error in unlisted:
        if not isinstance(error, RemoteError):
            raise error
    return [_info(files, path, top), *await _infos(files, path, top, nodes)]


async def _infos(files: Files, path: str, top: Node, nodes: Iterable[Node]) -> list[Info]:
    """The infos of nodes below `top`, which is at `path`."""

    async def shown(node: Node) -> Node:
        if node.pending is not None:  # grown or replaced: its bytes tell
            await files.tree.refresh(node)
            siblings = node.parent.children if node.parent is not None else {}
            return siblings.get(node.name, node)
        target = await resolved(files.tree, node)
        return target if target is not None and target.kind is Kind.FILE else node

    nodes = list(nodes)
    asked = [node for node in nodes if node.pending is not None or node.kind is Kind.SYMLINK]
    answers = dict(zip(asked, await each(asked, shown, ASKED_AT_ONCE), strict=True))
    start = len(top.path.rstrip(b"/")) + 1
    return [
        _info(files, posixpath.join(path, os.fsdecode(node.path[start:])), answers.get(node, node))
        for node in nodes
    ]


def _info(files: Files, name: str, node: Node) -> Info:
    shown = files.shown(node)
    return {
        "name": name,
        "size": shown.size if node.kind is Kind.FILE else 0,
        "type": node.kind.value,
        "mtime": shown.mtime,
        "mode": shown.mode,
        "ino": shown.ino,
    }


async def open_file(files: Files, path: str) -> Reader:
    """Open for reading; a version that goes away meanwhile is looked up once more, as the kernel does."""
    try:
        return await files.open(await _file(files, path))
    except StaleVersion:
        return await files.open(await _file(files, path))


async def _file(files: Files, path: str) -> Node:
    node = await files.find(os.fsencode(path))
    if node.kind is not Kind.FILE:
        number = errno.EISDIR if node.kind is Kind.DIRECTORY else errno.EOPNOTSUPP
        raise OSError(number, os.strerror(number), path)
    return node


async def parts(files: Files, spans: Iterable[Span]) -> list[Any]:
    """The bytes of each part, of one version, or the error instead; all at once."""
    small, large = asyncio.Semaphore(SMALL_AT_ONCE), asyncio.Semaphore(LARGE_AT_ONCE)

    async def one(span: Span) -> bytes:
        data = io.BytesIO()

        async def use(reader: Reader) -> None:
            wanted = _range(reader.size, span)
            data.seek(0)
            data.truncate()
            async for pieces in chunks(reader, wanted.start, wanted.stop):
                data.writelines(block.view(a, b) for block, a, b in pieces)

        node = await _file(files, span[0])
        async with small if len(_range(node.version.size, span)) <= SMALL else large:
            await with_reader(files.tree, files.fetcher, node, files.timeout, use)
        return data.getvalue()

    return await asyncio.gather(*map(one, spans), return_exceptions=True)


def _range(size: int, span: Span) -> range:
    return range(*slice(*span[1:]).indices(size))
