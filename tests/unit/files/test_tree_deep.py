"""Trees that are deeper than Python's stack, and paths that are longer than the server takes."""

from __future__ import annotations

import sys

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.base.errnos import errno_of
from vfs.base.errors import NameTooLong, NoSuchPath, ServerFailure
from vfs.files.node import Node
from vfs.remote.api import LONGEST_NAME, LONGEST_PATH
from vfs.remote.sftp.wire import Code, Status, error_of

DEPTH = 2 * sys.getrecursionlimit() - 1000
"""Levels, so that a name of one byte at each is a path that Linux takes."""


def dig(stack: MemoryStack) -> bytes:
    """Make directories below each other; the path of the deepest."""
    path = ROOT
    for _ in range(DEPTH):
        path += b"/d"
        stack.files.mkdir(path)
    return path


async def descend(stack: MemoryStack) -> list[Node]:
    """List each of them as a walking program does."""
    node, passed = stack.tree.root, []
    for _ in range(DEPTH):
        node = await stack.tree.lookup(node, b"d")
        stack.list_ahead.note(node)
        await stack.tree.refresh_listing(node)
        passed.append(node)
    return passed


def test_a_tree_is_walked_removed_and_found_however_deep_it_is() -> None:
    async def story(stack: MemoryStack) -> None:
        dig(stack)
        passed = await descend(stack)
        bottom = passed[-1]
        assert bottom.depth == DEPTH
        assert bottom.relative == b"/".join([b"d"] * DEPTH)
        assert await stack.node(bottom.relative) is bottom
        stack.tree.names.remove(passed[0])
        assert all(node.stale for node in passed)

    play(story)


def test_links_below_a_deep_directory_are_followed() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/out")
        stack.files.symlink(dig(stack) + b"/l", b"/out")
        bottom = (await descend(stack))[-1]
        assert (await stack.tree.lookup(bottom, b"l")).follow

    play(story)


def test_a_path_that_is_too_long_is_said_to_be_and_nobody_is_asked() -> None:
    async def story(stack: MemoryStack) -> None:
        dig(stack)
        bottom = (await descend(stack))[-1]
        stack.remote.requests.clear()
        for name in (b"n" * (LONGEST_NAME + 1), b"n" * (LONGEST_PATH - len(bottom.path))):
            with pytest.raises(NameTooLong):
                await stack.tree.lookup(bottom, name)
        assert not stack.remote.requests

    play(story)


def test_a_name_that_is_too_long_for_the_servers_file_system_is_said_to_be() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.name_max = 143  # as below ecryptfs
        stack.remote.fail("scandir", ServerFailure("the disk fails"), times=9)
        with pytest.raises(NameTooLong):
            await stack.node(b"n" * 144)
        with pytest.raises(NoSuchPath):
            await stack.node(b"n" * 143)
        stack.remote.fail("lstat", ServerFailure("the disk fails"))
        with pytest.raises(ServerFailure):
            await stack.node(b"m" * 143)

    play(story)


@pytest.mark.parametrize(
    ("path", "kind"),
    [(b"/r/" + b"n" * 300, NameTooLong), (b"/r" + b"/d" * 1000, NameTooLong), (b"/r/n", ServerFailure)],
)
def test_a_server_that_finds_a_path_too_long_says_so_with_a_bad_message(path: bytes, kind: type) -> None:
    error = error_of(Status(Code.BAD_MESSAGE, ""), path)
    assert type(error) is kind
    assert (errno_of(error) == errno_of(NameTooLong())) == (kind is NameTooLong)
