"""Inspects files of this machine or of the server; the directory of a distributed checkpoint counts as a file."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from vfs.base.errors import ArtisyncError, StaleVersion, Unreachable, UnreadableFormat, UsageError
from vfs.base.paths import open_file
from vfs.files.experiments import find_path
from vfs.files.node import Kind, Node
from vfs.files.read_whole import settled_reader
from vfs.files.reader import joined
from vfs.formats.dcp import METADATA
from vfs.formats.describe import inspect_file
from vfs.formats.report import Report
from vfs.stack import Stack

Opened = tuple[int, Callable[[int, int], bytes]]
"""A file's size, and what reads it: offset and length to bytes."""


def inspect_local(path: Path) -> Report:
    """Raises UsageError for what cannot be read; Unreachable and StaleVersion in a mount; UnreadableFormat. Blocks; any thread."""
    with ExitStack() as opened, ExitStack() as other:

        def open_it(path: Path, until: ExitStack) -> Opened:
            fd = until.enter_context(open(open_file(path), "rb", buffering=0)).fileno()
            return os.fstat(fd).st_size, lambda offset, length: os.pread(fd, length, offset)

        def beside(name: str) -> Opened | None:
            other.close()
            with contextlib.suppress(OSError):
                return open_it(file.parent / name, other)
            return None

        file = path / METADATA if os.path.isfile(path / METADATA) else path
        try:
            report = inspect_file(os.fsencode(file.name), *open_it(file, opened), beside)
        except OSError as error:
            if error.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT):  # it is in a mount
                raise Unreachable(f"{path}: {error.strerror}") from error
            if error.errno == errno.ESTALE:
                raise StaleVersion(f"{path} was replaced") from error
            verb = "" if error.errno == errno.EINVAL else "cannot be read: "
            raise UsageError(f"{path} {verb}{error.strerror}") from error
    report.name = path.name
    return report


async def inspect(stack: Stack, path: str) -> Report:
    """Raises NoSuchExperiment, NoSuchPath, UnreadableFormat, Unreachable. The formats read on a thread of their own."""
    loop = asyncio.get_running_loop()
    tree = stack.tree
    node = await find_path(tree, path)
    if node.kind is Kind.DIRECTORY:
        path = posixpath.join(path, METADATA)
        inside = {os.fsdecode(one.name): one for one in await tree.listing(node)}
        if METADATA not in inside:
            raise UnreadableFormat(
                f"{os.fsdecode(node.name)!r} is a directory and not a distributed checkpoint"
            )
        node = inside[METADATA]
    async with AsyncExitStack() as opened, AsyncExitStack() as other:

        async def open_it(node: Node, until: AsyncExitStack) -> Opened:
            if node.kind is not Kind.FILE:
                raise UnreadableFormat(f"{os.fsdecode(node.name)!r} is not a file")
            settled = settled_reader(tree, stack.fetcher, node, stack.settings.timeout)
            reader = await until.enter_async_context(settled)

            async def read(offset: int, length: int) -> bytes:
                return joined(await reader.read(offset, length))

            return reader.size, lambda offset, length: asyncio.run_coroutine_threadsafe(
                read(offset, length), loop
            ).result()

        async def find_beside(name: str) -> Opened | None:
            await other.aclose()
            with contextlib.suppress(ArtisyncError):
                return await open_it(await tree.find(posixpath.join(directory, os.fsencode(name))), other)
            return None

        def beside(name: str) -> Opened | None:
            return asyncio.run_coroutine_threadsafe(find_beside(name), loop).result()

        directory = posixpath.dirname(node.relative)
        size, read = await open_it(node, opened)
        report = await asyncio.to_thread(inspect_file, node.name, size, read, beside)
    report.name = posixpath.basename(path.rstrip("/").removesuffix(f"/{METADATA}"))
    return report
