"""Answers to the kernel's requests, without a kernel: nobody takes them, unless a test says so."""

from __future__ import annotations

import asyncio
import errno
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TIMEOUT, MemoryStack, play
from vfs.base.loop_time import loop_time
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
from vfs.fetch.readahead import Readahead
from vfs.files.node import Node
from vfs.frontends.fuse import reply
from vfs.frontends.fuse.operations import PATIENCE, Operations

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
        served._directories[1] = root, children
        served.readdirplus(GONE, root.id, 4096, 0, 1)
        assert [child.lookups for child in children] == [int(taken)] * 3
        assert len(stack.tree.names._held) == 1 + 3 * taken

    play(story)


def test_an_answer_that_the_kernel_did_not_take_holds_nothing() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        served, root = operations(stack), stack.tree.root
        (child,) = await stack.tree.listing(root)
        served.lookup(GONE, root.id, b"f")
        served.opendir(GONE, root.id)
        await served._open(GONE, child)
        assert child.lookups == 0
        assert (served._readers, served._directories) == ({}, {})
        assert child.content is not None
        assert child.content.readers == 0
        await served.aclose()

    play(story)


def test_who_waits_at_the_end_is_told_that_the_mount_is_gone_and_not_of_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append(number))
    monkeypatch.setattr("vfs.frontends.fuse.operations.thread_of", lambda _: 1)

    async def story(stack: MemoryStack) -> None:
        served = operations(stack)
        served.lookup(GONE, stack.tree.root.id, b"f")
        assert served.waiting == [1]
        await served.aclose()
        assert served.waiting == []

    play(story)
    assert answers == [errno.ENOTCONN]


async def from_disk(stack: MemoryStack) -> Operations:
    """Handle 1 is of a file that the disk has and memory lacks; the server is gone."""
    stack.old(ROOT + b"/f", b"content" * 1000)
    await stack.read(b"f")
    await stack.restart(offline=True)
    served = operations(stack)
    await served._open(GONE, await stack.node(b"f"))
    served._readers[1] = await stack.open(b"f")
    return served


def test_what_the_disk_has_is_answered_without_a_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "memory", lambda _, pieces: answers.append(sum(size for _, size in pieces)))

    async def story(stack: MemoryStack) -> None:
        served = await from_disk(stack)
        served.read(GONE, 0, 4096, 100, 1)
        assert served.waiting == []
        await asyncio.sleep(PATIENCE / 2)
        assert answers == [4096]
        await asyncio.sleep(PATIENCE * 2)
        assert answers == [4096]
        await served.aclose()

    play(story, place=tmp_path)


def test_what_is_on_its_way_is_answered_when_it_comes_and_counts_as_one_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[int] = []
    touched: list[tuple[int, int]] = []
    touch = Readahead.touch

    def note(pattern: Readahead, start: int, end: int) -> None:
        touched.append((start, end))
        touch(pattern, start, end)

    monkeypatch.setattr(Readahead, "touch", note)
    monkeypatch.setattr(reply, "memory", lambda _, pieces: answers.append(sum(size for _, size in pieces)))
    monkeypatch.setattr("vfs.frontends.fuse.operations.thread_of", lambda _: 1)

    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"content" * 1000)
        served = operations(stack)
        reader = served._readers[1] = await stack.open(b"f")
        first = asyncio.create_task(reader.read(0, 4096))
        await asyncio.sleep(0.01)
        touched.clear()
        served.read(GONE, 0, 2048, 100, 1)
        assert served.waiting == []
        await asyncio.sleep(PATIENCE)
        assert served.waiting == [1]
        await first
        await asyncio.sleep(0.01)
        assert (answers, touched) == ([2048], [(100, 2148)])
        await served.aclose()

    play(story, latency=4 * PATIENCE)


def test_who_waits_for_a_disk_that_hangs_can_be_interrupted_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "memory", lambda _, pieces: answers.append(sum(size for _, size in pieces)))
    monkeypatch.setattr("vfs.frontends.fuse.operations.thread_of", lambda _: 1)
    hangs = threading.Event()
    read = DiskCache.read

    def slow(cache: DiskCache, lineage: bytes, indexes: Sequence[int]) -> list[Block | None]:
        hangs.wait(20)
        return read(cache, lineage, indexes)

    async def story(stack: MemoryStack) -> None:
        served = await from_disk(stack)
        monkeypatch.setattr(DiskCache, "read", slow)
        served.read(GONE, 0, 4096, 100, 1)
        await asyncio.sleep(PATIENCE * 2)
        assert served.waiting == [1]
        hangs.set()
        while served.waiting:  # for a thread, which knows no virtual time
            await asyncio.sleep(0)
        assert answers == [4096]
        await served.aclose()

    play(story, place=tmp_path)


def test_what_the_disk_lost_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append(number))
    monkeypatch.setattr("vfs.frontends.fuse.operations.thread_of", lambda _: 1)

    async def story(stack: MemoryStack) -> None:
        served = await from_disk(stack)
        monkeypatch.setattr(DiskCache, "read", lambda _, lineage, indexes: [None] * len(indexes))
        served.read(GONE, 0, 4096, 100, 1)
        await asyncio.sleep(TIMEOUT + 1)
        assert answers == [errno.ETIMEDOUT]
        await served.aclose()

    play(story, place=tmp_path)


def test_what_is_refused_at_once_is_logged_with_its_errno(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reply, "error", lambda *_: True)
    caplog.set_level("DEBUG", "vfs.base.calls")

    async def story(stack: MemoryStack) -> None:
        served, root = operations(stack), stack.tree.root
        served.getattr(GONE, 99)
        served.getxattr(GONE, root.id, b"user.colour", 0)
        await served.aclose()

    play(story)
    shown = [
        re.sub(r"(req|ino)=\d+", r"\1", line)
        for line in caplog.messages
        if "xattr" in line or "getattr" in line
    ]
    assert shown == [
        "getattr{req nodeid=99}: ESTALE at once",
        "getxattr{req ino path=/r name=user.colour}: ENODATA at once",
    ]


def test_the_kernel_asks_how_long_a_file_is_when_it_was_told_before_the_first_byte_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    monkeypatch.setattr(reply, "memory", lambda _, pieces: told.append(sum(size for _, size in pieces)))

    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"old")
        served = operations(stack)
        served.forget_attributes = told.append
        node = await stack.tree.lookup(stack.tree.root, b"f")
        served._entry(GONE, node)
        served._readers[1] = await stack.service.open(node)
        stack.files.replace(ROOT + b"/f", b"longer")
        await stack.tree.versions.ask(node, None)  # a listing ahead does so, and the kernel is not told
        for _ in range(2):
            await served._read(GONE, 1, 0, 4096, noted=False)
        assert told == [node.id, 6, 6]

    play(story)


@pytest.fixture
def from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests come from a thread that nobody interrupts, without libfuse."""
    monkeypatch.setattr("vfs.frontends.fuse.operations.thread_of", lambda _: 1)
    monkeypatch.setattr("vfs.frontends.fuse.operations.on_interrupt", lambda *_: None)


async def with_a_file_that_does_not_come(stack: MemoryStack) -> tuple[Operations, Node]:
    """A file is open as handle 1, and the server does not answer its reads."""
    stack.old(ROOT + b"/f", bytes(1 << 20))
    served = operations(stack)
    node = await stack.tree.lookup(stack.tree.root, b"f")
    served._readers[1] = await stack.service.open(node)
    stack.remote.delay("read", after=1000, times=100)
    return served, node


@pytest.mark.usefixtures("from_a_thread")
def test_a_page_that_did_not_come_in_time_is_not_waited_for_a_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[tuple[int, float]] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append((number, loop_time())))

    async def story(stack: MemoryStack) -> None:
        served, node = await with_a_file_that_does_not_come(stack)
        began = loop_time()
        served.read(GONE, node.id, 131072, 0, 1)
        await asyncio.sleep(TIMEOUT + PATIENCE)
        served.read(GONE, node.id, 4096, 0, 1)  # the page that the program waits for
        await asyncio.sleep(1)
        served.read(GONE, node.id, 4096, 0, 1)  # the program tries again
        await asyncio.sleep(1)
        await served.aclose()
        assert [number for number, _ in answers] == [errno.ETIMEDOUT, errno.ETIMEDOUT, errno.ENOTCONN]
        assert answers[1][1] - began < TIMEOUT + 1

    play(story)


def test_what_comes_after_the_end_is_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append(number))
    broken: list[object] = []

    async def story(stack: MemoryStack) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        stack.old(ROOT + b"/f", bytes(4 << 20))
        served = operations(stack)
        node = await stack.tree.lookup(stack.tree.root, b"f")
        reader = served._readers[1] = await stack.service.open(node)
        stack.remote.delay("read", after=1, times=100)
        stack.fetcher.ahead("nobody", reader.content, [(0, 4 << 20)])
        await asyncio.sleep(0.1)
        served.read(GONE, node.id, 131072, 0, 1)  # waits for what is on its way
        await served.aclose()
        await asyncio.sleep(5)

    play(story)
    assert broken == []
    assert answers == [errno.ENOTCONN]


@pytest.mark.usefixtures("from_a_thread")
def test_a_page_whose_read_was_interrupted_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    monkeypatch.setattr(reply, "error", lambda _, number: answers.append(number))

    async def story(stack: MemoryStack) -> None:
        served, node = await with_a_file_that_does_not_come(stack)
        served.read(GONE, node.id, 4096, 0, 1)
        await asyncio.sleep(1)
        (task,) = served._threads
        task.cancel()
        await asyncio.sleep(PATIENCE)
        served.read(GONE, node.id, 4096, 0, 1)
        await asyncio.sleep(1)
        assert answers == [errno.EINTR]
        await served.aclose()

    play(story)
