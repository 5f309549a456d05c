"""Answers to the kernel's requests, without a kernel: nobody takes them, unless a test says so."""

from __future__ import annotations

import errno

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.frontends.fuse import reply, requests
from vfs.frontends.fuse.operations import OpenDirectory, Operations

GONE = 7
"""A request that the kernel has given up."""


def operations(stack: MemoryStack) -> Operations:
    return Operations(stack.service)


@pytest.mark.parametrize("taken", [True, False])
def test_what_a_listing_shows_is_held_only_if_the_kernel_took_it(
    monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(reply, "memory", lambda *_: taken)

    async def story(stack: MemoryStack) -> None:
        for name in (b"/a", b"/b", b"/c"):
            stack.old(ROOT + name, b"x")
        served, root = operations(stack), stack.tree.root
        children = await stack.tree.listing(root)
        served._handles[1] = OpenDirectory(root, children)
        served.readdirplus(GONE, root.id, 1, 4096, 0)
        assert [child.lookups for child in children] == [int(taken)] * 3
        assert len(stack.tree.names._held) == 1 + 3 * taken

    play(story)


def test_an_answer_that_the_kernel_did_not_take_holds_nothing() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        served, root = operations(stack), stack.tree.root
        (child,) = await stack.tree.listing(root)
        served.lookup(GONE, root.id, b"f")
        served.opendir(GONE, root.id, 0)
        await served._open(GONE, child)
        assert child.lookups == 0
        assert served._handles == {}
        assert child.content is not None
        assert child.content.readers == 0
        await served.aclose()

    play(story)


def test_who_waits_at_the_end_is_told_that_the_mount_is_gone_and_not_of_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append(number))
    monkeypatch.setattr("vfs.frontends.fuse.operations.caller", lambda _: requests.Caller(0, 0, 1))

    async def story(stack: MemoryStack) -> None:
        served = operations(stack)
        served.lookup(GONE, stack.tree.root.id, b"f")
        assert served.waiting == [1]
        await served.aclose()
        assert served.waiting == []

    play(story)
    assert answers == [errno.ENOTCONN]
