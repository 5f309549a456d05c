"""Fetching files into the cache before they are read, and pinning them there. On the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence

from vfs.base.errors import ArtisyncError, LinkError, NoSuchPath
from vfs.base.progress import Progress
from vfs.base.slices import slices
from vfs.base.units import size
from vfs.commands.fitting import fitting
from vfs.commands.patterns import expand
from vfs.commands.reports import Report, Tell, reports
from vfs.fetch.content import Content
from vfs.files import experiments
from vfs.files.node import Kind, Node
from vfs.files.read_whole import chunks, each_file, with_reader
from vfs.files.reader import Reader
from vfs.files.records import pins_of
from vfs.files.requests import fresh_only
from vfs.stack import Stack


def prefetch(stack: Stack, paths: Sequence[str], *, pin: bool) -> AsyncIterator[Report]:
    """Fetch all files at and below `paths` (relative to the root), and pin them with `pin`.

    Reports the "progress"; in the end "failed": [[name, reason], …], "lacking": the bytes that the cache could not keep, and
    "why". Raises NoSuchExperiment, NoSuchPath, Unreachable.
    """
    progress = Progress()

    async def work(tell: Tell) -> None:
        remote = stack.tree.remote
        if not remote.link.online:
            await remote.hurried()
        fetched, failed = await _fetch(stack, paths, progress, pin=pin)
        lacking = sum([await _lacking(stack, content) for content in fetched])
        why = stack.cache.disk.why_not_kept(lacking) if lacking else None
        tell({"failed": failed, "lacking": lacking, "why": why})

    return reports(work, progress)


async def estimate(stack: Stack, paths: Sequence[str]) -> AsyncIterator[Report]:
    """Over a metered link only: how many "files" there are at and below `paths`, and the "bytes" of them that are not here.

    Raises as `prefetch`.
    """
    if not stack.settings.metered:
        return
    nodes = await _files(stack, paths)
    here = 0
    async for part in slices(nodes):
        for node in part:
            content = await stack.tree.lineages.known(node)
            if content is not None:
                here += min(node.version.size, stack.cache.cached_bytes(content.lineage))
    yield {"files": len(nodes), "bytes": sum(node.version.size for node in nodes) - here}


async def unpin(stack: Stack, paths: Sequence[str]) -> AsyncIterator[Report]:
    """Let the files at and below `paths` be evicted again; how many had been pinned: "unpinned".

    Those count, too, that the server has no more. Raises as `prefetch` for a path where nothing is pinned.
    """
    pins = await stack.cache.records(pins_of(stack.tree.lineages.identity))
    gone: set[str] = set()
    for path in paths:
        found = _pins_below(pins, os.fsencode(path).strip(b"/"))
        if not found:  # a pattern, the beginning of a name, or a link
            for name in await expand(stack.tree, [path]):
                found |= _pins_below(pins, (await _named(stack, name)).relative)
        gone |= found
    for key in gone:
        stack.cache.disk.set_record(key, None)
    for key, path_pin in await stack.cache.records("p:"):
        if path_pin.decode(errors="surrogatepass") in gone:
            stack.cache.disk.set_record(key, None)
    yield {"unpinned": len(gone)}


def _pins_below(pins: Sequence[tuple[str, bytes]], top: bytes) -> set[str]:
    """The names of the pins of `top` and of all below it; the root is empty."""
    return {key for key, path in pins if not top or path == top or path.startswith(top + b"/")}


async def _named(stack: Stack, path: str) -> Node:
    """The file or directory that a path means. Raises NoSuchExperiment, NoSuchPath, Unreachable."""
    return await experiments.find_path(stack.tree, path) if path.strip("/.") else stack.tree.root


async def _lacking(stack: Stack, content: Content) -> int:
    """Bytes that the cache should keep and does not. A file that is being written is not kept before it is settled."""
    if not content.trusted or content.stale:
        return 0
    return max(0, content.version.size - sum((await stack.cache.index(content.lineage)).values()))


async def _fetch(
    stack: Stack, paths: Sequence[str], progress: Progress, *, pin: bool
) -> tuple[list[Content], list[tuple[str, str]]]:
    """The contents of the files that were fetched, and the names of the others with the reason."""
    fetched: list[Content] = []
    failed: list[tuple[str, str]] = []
    with contextlib.nullcontext() if pin else fresh_only():  # what is cached can be pinned offline
        nodes = await _files(stack, paths)
    capacity, what = await asyncio.to_thread(stack.cache.disk.capacity)
    nodes, others = fitting(nodes, lambda node: node.version.size, capacity)
    for node in others:
        beside = " beside the others" if node.version.size <= capacity else ""
        failed.append((os.fsdecode(node.relative), f"{size(node.version.size)} do not fit{beside}: {what}"))
    progress.files = len(nodes)
    progress.total = sum(node.version.size for node in nodes)

    async def one(node: Node) -> None:
        progress.doing = name = os.fsdecode(node.relative)
        try:
            fetched.append(await _one(stack, node, progress, pin=pin))
        except LinkError:
            raise
        except NoSuchPath:
            return
        except (ArtisyncError, TimeoutError) as error:
            failed.append((name, str(error) or "no answer"))
            return
        progress.files_done += 1

    await each_file(nodes, lambda node: node.version.size, one)
    await stack.cache.flush()
    return fetched, failed


async def _one(stack: Stack, node: Node, progress: Progress, *, pin: bool) -> Content:
    counted = 0
    content: Content | None = None

    async def use(reader: Reader) -> None:
        nonlocal counted, content
        progress.done -= counted
        counted = 0
        content = reader.content
        if pin:
            stack.tree.lineages.pin(reader.node, content)
        length = content.version.size
        await stack.cache.keep(content.lineage)
        if stack.cache.cached_bytes(content.lineage) < length:
            async for pieces in chunks(reader, 0, length):
                count = sum(b - a for _, a, b in pieces)
                counted += count
                progress.done += count
        else:
            counted = length
            progress.done += length

    await with_reader(stack.tree, stack.fetcher, node, stack.settings.timeout, use)
    assert content is not None
    return content


async def _files(stack: Stack, paths: Sequence[str]) -> list[Node]:
    """The files at and below the paths, each once."""
    found: dict[Node, None] = {}
    for path in await expand(stack.tree, paths):
        node = await _named(stack, path)
        if node.kind is Kind.FILE:
            found[node] = None
        elif node.kind is Kind.DIRECTORY:
            async for below in experiments.walk(stack.tree, node):
                if below.kind is Kind.FILE:
                    found[below] = None
    return list(found)
