"""Files' bytes in order, once or for as long as one grows. On the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from vfs.base.errors import LinkError, NoSuchPath, StaleVersion, UsageError
from vfs.commands.patterns import expand
from vfs.commands.reports import Report
from vfs.files.experiments import find_path
from vfs.files.node import Kind, Node
from vfs.files.read_whole import chunks, settled_reader
from vfs.files.reader import Reader, joined
from vfs.stack import Stack

STEP = 64 << 10
"""Bytes in which the last lines are looked for at a time."""


async def cat(
    stack: Stack, paths: Sequence[str], lines: int | None, *, follow: bool
) -> AsyncGenerator[Report]:
    """One version of each file at `paths` (relative to the root; patterns are expanded), or its last `lines`, as "data".

    With `follow`, then what is appended, without an end; "tell" says that the file was replaced or is gone, and a server
    that does not answer is waited for. Raises NoSuchPath, NoSuchExperiment, UsageError for a directory, StaleVersion when a
    file is replaced meanwhile, else what the remote raises.
    """
    work = _followed if follow else _copied
    for path in await expand(stack.tree, paths):
        async with aclosing(work(stack, path, lines)) as reports:
            async for report in reports:
                yield report


async def _copied(stack: Stack, path: str, lines: int | None) -> AsyncGenerator[Report]:
    node = await _file(stack, path)
    async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
        async for pieces in chunks(reader, await _start(reader, lines), reader.size):
            yield {"data": joined(pieces)}


async def _followed(stack: Stack, path: str, lines: int | None) -> AsyncGenerator[Report]:
    node: Node | None = None
    written: int | None = None
    gone = False
    while True:
        try:
            current = await _file(stack, path)
            if node not in (None, current):
                yield {"tell": f"{path} was replaced; following the new file"}
                written = 0
            node, gone = current, False
            async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
                written = await _start(reader, lines) if written is None else min(written, reader.size)
                while not node.stale:
                    async for pieces in chunks(reader, written, reader.size):
                        data = joined(pieces)
                        written += len(data)
                        yield {"data": data}
                    yield {}  # nobody is to take a quiet file for a mount that hangs
                    await asyncio.sleep(stack.settings.ttl / 2)
                    await stack.tree.refresh(node)
            continue
        except StaleVersion:
            continue
        except (NoSuchPath, LinkError, TimeoutError) as error:
            if node is None:
                raise
            if isinstance(error, NoSuchPath) and not gone:
                yield {"tell": f"{path} is gone; waiting for it to come back"}
                gone = True
        yield {}
        await asyncio.sleep(stack.settings.ttl)


async def _file(stack: Stack, path: str) -> Node:
    node = await find_path(stack.tree, path)
    if node.kind is Kind.DIRECTORY:
        raise UsageError(f"{path} is a directory; list it with `artisync ls {path}`")
    if node.kind is not Kind.FILE:
        raise UsageError(f"{path} is a FIFO, a socket or a device, which is never opened")
    return node


async def _start(reader: Reader, lines: int | None) -> int:
    """Where the last `lines` begin; found by reading backwards."""
    if not lines:
        return 0 if lines is None else reader.size
    at, left = reader.size, lines + 1
    while at:
        offset = max(0, at - STEP)
        data = joined(await reader.read(offset, at - offset))
        if at == reader.size and not data.endswith(b"\n"):
            left -= 1  # the last line has no end yet
        found = len(data)
        while (found := data.rfind(b"\n", 0, found)) >= 0:
            left -= 1
            if not left:
                return offset + found + 1
        at = offset
    return 0
