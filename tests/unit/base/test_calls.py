"""What the log says of requests."""

from __future__ import annotations

import asyncio
import errno
import logging
import re

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from vfs.base import calls
from vfs.base.calls import Call
from vfs.base.errors import NoSuchPath


def test_a_request_is_logged_once_with_its_number_node_path_errno_and_duration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/a\n\xff", b"x")
        node = await stack.node(b"a\n\xff")
        root = stack.tree.root
        reader = await stack.service.answer(Call("open", node), stack.service.open(node))
        await stack.service.answer(Call("read", node, off=0, len=1), reader.read(0, 1))
        reader.close()
        with pytest.raises(NoSuchPath):
            await stack.service.answer(Call("lookup", root, name=b"b"), stack.service.lookup(root, b"b"))
        calls.at_once("lookup", root, errno.ENOENT, name=b"b")

    with caplog.at_level(logging.DEBUG, calls.__name__):
        play(story)
    lines = [record.getMessage() for record in caplog.records if record.name == calls.__name__]
    shown = [re.sub(r"ino=\d+|in [\d.]+ ms", "…", re.sub(r"req=\d+", "req", line)) for line in lines]
    shown = [re.sub(r"NoSuchPath: [^)]*", "NoSuchPath", line) for line in shown]
    assert shown == [
        r"open{req … path=/r/a\n\xff}: ok …",
        r"read{req … path=/r/a\n\xff off=0 len=1}: ok …",
        r"lookup{req … path=/r name=b}: ENOENT (NoSuchPath) …",
        r"lookup{req … path=/r name=b}: ENOENT at once",
    ]
    numbers = [re.search(r"req=(\d+)", line) for line in lines]
    assert len({number.group(1) for number in numbers if number}) == 4
    assert not [record for record in caplog.records if record.exc_info]


def test_a_call_that_is_cancelled_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        task = asyncio.ensure_future(calls.answer(Call("read", None), None, asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    caplog.set_level("DEBUG", "vfs.base.calls")
    asyncio.run(story())
    assert re.fullmatch(r"read\{req=\d+\}: cancelled in .* ms", caplog.messages[-1])


def test_an_unexpected_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def story(stack: MemoryStack) -> None:
        with pytest.raises(ZeroDivisionError):
            await stack.service.answer(Call("open", stack.tree.root), fail())

    with caplog.at_level(logging.ERROR, "vfs"):
        play(story)
    assert [bool(record.exc_info) for record in caplog.records] == [True]


def test_what_is_logged_for_a_request_names_it(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        logging.getLogger("vfs.elsewhere").warning("%d%%", 5)

    async def story(stack: MemoryStack) -> None:
        await stack.service.answer(Call("open", stack.tree.root), work())
        await work()

    caplog.handler.addFilter(calls.name_call)
    try:
        with caplog.at_level(logging.WARNING, "vfs"):
            play(story)
    finally:
        caplog.handler.removeFilter(calls.name_call)
    inside, outside = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"open\{req=\d+ ino=\d+ path=/r\}: 5%", inside)
    assert outside == "5%"
