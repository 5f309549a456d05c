"""What the event loop receives by itself: when it is asked, paused and stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from vfs.remote.ssh.loop_reader import LoopReader


class Pipe:
    """A pipe, and a `take` that reads one byte at a time; it pauses at `-`, and notes what it read."""

    def __init__(self) -> None:
        self.output, self.input = os.pipe()
        os.set_blocking(self.output, False)
        self.taken = b""
        self.calls = 0

    def take(self) -> bool:
        self.calls += 1
        try:
            self.taken += os.read(self.output, 1)
        except BlockingIOError:
            return True
        return not self.taken.endswith(b"-")

    async def takes(self, what: bytes) -> None:
        async with asyncio.timeout(5):
            while self.taken != what:
                await asyncio.sleep(0)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.output)
    os.close(made.input)


def test_what_is_there_at_the_start_and_what_comes_later_is_taken(pipe: Pipe) -> None:
    async def run() -> None:
        reader = LoopReader(asyncio.get_running_loop())
        os.write(pipe.input, b"ab")
        reader.start(pipe.output, pipe.take)
        await pipe.takes(b"ab")
        os.write(pipe.input, b"c")
        await pipe.takes(b"abc")
        reader.stop()

    asyncio.run(run())


def test_nothing_is_taken_between_a_pause_and_the_next_start(pipe: Pipe) -> None:
    async def run() -> None:
        reader = LoopReader(asyncio.get_running_loop())
        os.write(pipe.input, b"a-b")
        reader.start(pipe.output, pipe.take)
        await pipe.takes(b"a-")
        calls = pipe.calls
        for _ in range(10):
            await asyncio.sleep(0)
        assert pipe.calls == calls
        await asyncio.to_thread(reader.start, pipe.output, pipe.take)
        await pipe.takes(b"a-b")
        reader.stop()

    asyncio.run(run())


def test_once_it_is_stopped_nothing_is_taken_whoever_asks(pipe: Pipe) -> None:
    async def run() -> None:
        reader = LoopReader(asyncio.get_running_loop())
        reader.start(pipe.output, pipe.take)
        await asyncio.sleep(0)
        reader.stop()
        reader.stop()
        calls = pipe.calls
        os.write(pipe.input, b"a")
        reader.start(pipe.output, pipe.take)
        for _ in range(10):
            await asyncio.sleep(0)
        assert pipe.calls == calls

    asyncio.run(run())


def test_one_that_is_stopped_before_it_starts_never_takes(pipe: Pipe) -> None:
    async def run() -> None:
        reader = LoopReader(asyncio.get_running_loop())
        reader.stop()
        reader.start(pipe.output, pipe.take)
        await asyncio.sleep(0)
        assert pipe.calls == 0

    asyncio.run(run())


def test_nothing_is_taken_for_a_loop_that_has_ended(pipe: Pipe) -> None:
    async def make() -> LoopReader:
        return LoopReader(asyncio.get_running_loop())

    reader = asyncio.run(make())
    reader.start(pipe.output, pipe.take)
    assert pipe.calls == 0
