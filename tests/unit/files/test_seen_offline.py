"""Whatever a tree is made of: what was seen and read of it is there after a remount without a server, at once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.base.errors import EndlessSymlink, NoSuchPath, NotDirectory
from vfs.files.node import Kind

pytestmark = pytest.mark.one_python

NAMES = st.sampled_from([b"a", b"b.pt", b"events.out.tfevents.1.h", b"\xff", b"\xc3\xa9"])
SIZES = st.sampled_from([0, 1, 5000, (1 << 20) + 1])
TARGETS = st.sampled_from(
    [b"a", b"b.pt", b"..", b"../a", b"nowhere", b"/r/a", b"/out/file", b"/out", b"../../.."]
)
KINDS = st.one_of(st.none(), SIZES, TARGETS)
"""None is a directory, a number the size of a file in bytes, and bytes are the text of a symlink."""
TREES = st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), KINDS), max_size=12)

Seen = dict[bytes, tuple[object, ...]]


def build(stack: MemoryStack, tree: list[tuple[list[bytes], int | bytes | None]]) -> None:
    stack.files.mkdir(b"/out")
    stack.old(b"/out/file", b"outside")
    for names, what in tree:
        path = b"/".join([ROOT, *names])
        with contextlib.suppress(OSError, NoSuchPath, NotDirectory):
            if what is None:
                stack.files.mkdir(path)
            elif isinstance(what, int):
                stack.old(path, path[:1] * what)
            else:
                stack.files.symlink(path, what)


async def walked(stack: MemoryStack) -> Seen:
    """What each name is, what symlinks lead to, and the bytes of all files."""
    seen: Seen = {}
    todo = [stack.tree.root]
    while todo:
        for node in await stack.tree.listing(todo.pop()):
            seen[node.path] = node.kind, node.version, node.target
            if node.kind is Kind.DIRECTORY:
                todo.append(node)
            elif node.kind is Kind.FILE:
                seen[node.path] += (await stack.read(node.relative),)
            elif node.kind is Kind.SYMLINK:
                try:
                    seen[node.path] += ((await stack.node(node.relative)).path,)
                except (NoSuchPath, NotDirectory, EndlessSymlink) as error:
                    seen[node.path] += (type(error),)
    return seen


@settings(deadline=None, max_examples=40)
@given(TREES)
def test_a_tree_that_was_seen_is_there_after_a_remount_without_a_server(
    tree: list[tuple[list[bytes], int | bytes | None]],
) -> None:
    async def story(stack: MemoryStack) -> None:
        build(stack, tree)
        await walked(stack)
        await asyncio.sleep(10)
        before = await walked(stack)
        await stack.restart(offline=True)
        began = asyncio.get_running_loop().time()
        assert await walked(stack) == before
        assert asyncio.get_running_loop().time() == began

    with tempfile.TemporaryDirectory() as place:
        play(story, place=Path(place))
