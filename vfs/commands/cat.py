"""A file's bytes in order, once or for as long as it grows. On the event loop's thread; `write` is called by others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vfs.base.errors import LinkError, NoSuchPath, StaleVersion, UsageError
from vfs.files.experiments import find_path
from vfs.files.node import Kind, Node
from vfs.files.read_whole import chunks, settled_reader
from vfs.files.reader import Reader
from vfs.stack import Stack

Write = Callable[[bytes], None]


async def copy(stack: Stack, path: str, write: Write) -> None:
    """Write one version of the file at `path` (relative to the root).

    Raises NoSuchPath, NoSuchExperiment, UsageError for a directory, StaleVersion when the file is replaced meanwhile,
    else what the remote raises.
    """
    node = await _file(stack, path)
    async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
        await _write(reader, 0, reader.size, write)


async def follow(stack: Stack, path: str, write: Write, tell: Callable[[str], None]) -> None:
    """Write the file, and then what is appended, until cancelled; `tell` is told when it was replaced or is gone.

    A server that does not answer is waited for. Raises as `copy` at first.
    """
    node = await _file(stack, path)
    written, gone = 0, False
    while True:
        try:
            async with settled_reader(stack.tree, stack.fetcher, node, stack.settings.timeout) as reader:
                written = min(written, reader.size)
                while True:
                    written += await _write(reader, written, reader.size, write)
                    await asyncio.sleep(stack.settings.ttl / 2)
                    await stack.tree.refresh(node)
                    if node.stale:
                        raise StaleVersion(path)
        except StaleVersion:
            pass
        except (LinkError, TimeoutError):
            await asyncio.sleep(stack.settings.ttl)
            continue
        try:
            current = await _file(stack, path)
        except NoSuchPath:
            if not gone:
                tell(f"{path} is gone; waiting for it to come back")
            gone = True
            await asyncio.sleep(stack.settings.ttl)
            continue
        except (LinkError, TimeoutError):
            await asyncio.sleep(stack.settings.ttl)
            continue
        if current is not node:
            tell(f"{path} was replaced; this is the new one from its beginning")
            node, written, gone = current, 0, False


async def _file(stack: Stack, path: str) -> Node:
    node = await find_path(stack.tree, path)
    if node.kind is not Kind.FILE:
        raise UsageError(f"{path} is no file; `artisync ls {path}` lists it")
    return node


async def _write(reader: Reader, start: int, end: int, write: Write) -> int:
    """How many bytes were written."""
    async for pieces in chunks(reader, start, end):
        for block, a, b in pieces:
            await asyncio.to_thread(write, bytes(block.view(a, b)))
    return max(0, end - start)
