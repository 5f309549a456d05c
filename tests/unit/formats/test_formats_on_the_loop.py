"""Formats of an open file, and whether it is whole: nothing that a file says holds the event loop."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import Callable

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.unit.formats.hostile_files import FILES
from tests.unit.formats.made_files import safetensors_file
from tests.unit.formats.test_formats_zip import big_directory
from vfs.fetch.content import Content
from vfs.files import xattrs
from vfs.files.reader import Reader

pytestmark = pytest.mark.one_python

MIB = 1 << 20


def tensors(count: int) -> bytes:
    """A header of `count` tensors, without their bytes."""
    return safetensors_file({f"model.layers.{i}.attention.weight": ("F32", [4, 4], 0) for i in range(count)})


def checkpoint(entries: int) -> bytes:
    """An archive whose directory names so many tensors, 8 KiB apart."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("m/data.pkl", b"")
        for i in range(entries):
            archive.writestr(f"m/data/{i}", bytes(8100))
    return to.getvalue()


def ours(reader: Reader, start: int, length: int) -> asyncio.Task[object]:
    """A read in a task that the watch of the loop counts as ours."""
    return asyncio.ensure_future(reader.read(start, length))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (b"m.safetensors", lambda: tensors(60_000)),
        (b"m.safetensors", FILES["400,000 dimensions"][1]),
        (b"m.safetensors", FILES["a header of lists"][1]),
        (b"m.zip", lambda: big_directory(60_000)),
        (b"m.pt", lambda: checkpoint(20_000)),
    ],
    ids=["tensors", "dimensions", "lists", "directory", "checkpoint"],
)
def test_no_hint_holds_the_loop(name: bytes, make: Callable[[], bytes]) -> None:
    async def story(stack: MemoryStack) -> None:
        data = make()
        stack.old(ROOT + b"/" + name, data)
        reader = await stack.open(name)
        for offset in range(0, min(len(data), 9 * MIB), MIB):
            await ours(reader, offset, 4096)
            await asyncio.sleep(0.1)
        await ours(reader, len(data) - 4096, 4096)
        for offset in range(0, min(len(data), 8 * 8192), 8192):  # headers, one after the other
            await ours(reader, offset, 4096)
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        reader.close()

    play(story, latency=0.01)


@pytest.mark.timed
def test_whether_a_header_of_99_mb_is_whole_is_told_in_steps_and_once() -> None:
    async def story(stack: MemoryStack) -> None:
        name = b"m.safetensors"
        data = FILES["a header of 100 MB"][1]()
        data += bytes(67108864)
        stack.old(ROOT + b"/" + name, data)
        node = await stack.node(name)

        async def told() -> bytes:
            return await asyncio.ensure_future(xattrs.value(stack.tree, stack.fetcher, node, xattrs.COMPLETE))

        began = time.thread_time()
        assert await told() == b"yes"
        took = time.thread_time() - began
        began = time.thread_time()
        assert await told() == b"yes"
        assert time.thread_time() - began < took / 20
        content = node.content
        assert isinstance(content, Content)
        assert content.judged == (content.version, True)

    play(story, latency=0.001)


@pytest.mark.parametrize("cut", [1, 40, 300_000, 1_000_000])
def test_a_large_header_whose_file_is_cut_short_is_not_whole(cut: int) -> None:
    async def story(stack: MemoryStack) -> None:
        data = tensors(20_000) + bytes(1_000_000)
        last = b'"data_offsets": [0, 0]}}'
        longer = b'"data_offsets": [0, 1000000]}}'
        data = data.replace(last, longer)
        data = (int.from_bytes(data[:8], "little") + 6).to_bytes(8, "little") + data[8:]
        stack.old(ROOT + b"/whole.safetensors", data)
        stack.old(ROOT + b"/cut.safetensors", data[:-cut])
        for name, whole in ((b"whole.safetensors", b"yes"), (b"cut.safetensors", b"no")):
            node = await stack.node(name)
            assert await xattrs.value(stack.tree, stack.fetcher, node, xattrs.COMPLETE) == whole

    play(story)
