"""The state machine of `tests.lab.machine` on a mount in memory and on virtual time."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from tests.lab.history import History, Kind
from tests.lab.machine import Machine
from tests.lab.memory_stack import ROOT, TTL, MemoryStack, read
from tests.lab.programs import Later
from tests.lab.virtual_time import VirtualLoop
from vfs.base.errors import ArtisyncError, NotDirectory
from vfs.files.node import Kind as NodeKind
from vfs.files.reader import Reader
from vfs.frontends.fuse.operations import errno_of

pytestmark = pytest.mark.one_python

T = TypeVar("T")

TIMEOUT = 30.0
MEMORY = 8 << 20
"""Bytes of blocks in memory: a few files as the machine makes them."""
REQUEST = 128 << 10
"""Bytes of one of the kernel's reads."""
KINDS = {NodeKind.FILE: Kind.FILE, NodeKind.DIRECTORY: Kind.DIRECTORY, NodeKind.SYMLINK: Kind.SYMLINK}


class InMemory:
    """Programs on a `MemoryStack`, as the kernel and `operations` would serve them."""

    ttl = TTL
    slack = 0.0

    def __init__(self, **options: Any) -> None:
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._loop = self._runner.get_loop()

        async def make() -> MemoryStack:
            return MemoryStack(**options)

        self.stack = self.run(make())
        self.history = History(self.stack.files, ROOT, self.now)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def now(self) -> float:
        return self._loop.time()

    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def serve(self, work: Callable[[], Awaitable[T]], later: Later = ()) -> T:  # type: ignore[assignment]
        """One request, within the deadline; afterwards all changes have been made."""

        async def main() -> T:
            end = self.now() + max((delay for delay, _ in later), default=0)
            for delay, change in later:
                self._loop.call_later(delay, change)
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await work()
            except (ArtisyncError, TimeoutError) as error:
                number = errno_of(error)
                raise OSError(number, os.strerror(number)) from error
            finally:
                if later:
                    await asyncio.sleep(max(0.0, end - self.now()) + 0.001)

        return self.run(main())

    def look(self, path: bytes, later: Later) -> tuple[Kind, int]:
        async def work() -> tuple[Kind, int]:
            directory, _, name = path.rpartition(b"/")
            parent, files = await self.stack.node(directory), self.stack.service
            node = files.lookup_now(parent, name) or await files.lookup(parent, name)
            return KINDS[node.kind], node.attributes.size if stat.S_ISREG(node.attributes.mode) else 0

        return self.serve(work, later)

    def names(self, path: bytes, later: Later) -> set[bytes]:
        async def work() -> set[bytes]:
            directory = await self.stack.node(path)
            if directory.kind is not NodeKind.DIRECTORY:
                raise NotDirectory(path)
            return {node.name for node in await self.stack.tree.listing(directory)}

        return self.serve(work, later)

    def read(self, path: bytes, later: Later) -> bytes:
        async def work() -> bytes:
            reader = await self.stack.open(path)
            try:
                return await to_the_end(reader, 0)
            finally:
                reader.close()

        return self.serve(work, later)

    def open(self, path: bytes) -> Opened:
        return Opened(self, self.serve(lambda: self.stack.open(path)))

    def evict(self) -> None:
        self.stack.evict()

    def go_offline(self) -> None:
        self.stack.remote.go_offline()

    def go_online(self) -> None:
        self.stack.remote.go_online()

    def close(self) -> None:
        self.run(self.stack.aclose())
        self._runner.close()


class Opened:
    """An open file."""

    def __init__(self, client: InMemory, reader: Reader) -> None:
        self.client = client
        self.reader = reader

    def read(self, offset: int, length: int, later: Later = ()) -> bytes:  # type: ignore[assignment]
        return self.client.serve(lambda: read(self.reader, offset, length), later)

    def read_on(self, offset: int) -> bytes:
        async def work() -> bytes:
            await self.client.stack.tree.refresh(self.reader.node)
            return await to_the_end(self.reader, offset)

        return self.client.serve(work)

    def close(self) -> None:
        async def work() -> None:
            self.reader.close()

        self.client.run(work())


async def to_the_end(reader: Reader, start: int) -> bytes:
    """Read on until nothing more comes."""
    pieces = []
    while piece := await read(reader, start, REQUEST):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


class MemoryMachine(Machine):
    """Any latency, any clock."""

    @initialize(
        latency=st.sampled_from((0.0, 0.02, 0.3)),
        between=st.sampled_from((0.0, 0.01)),
        skew=st.sampled_from((0.0, -3600.0, 3600.0)),
        told=st.booleans(),
        made=Machine.made,
    )
    def start(self, latency: float, between: float, skew: float, told: bool, made: Any) -> None:
        client = InMemory(latency=latency, between=between, skew=skew, memory=MEMORY)
        client.stack.remote.link.tells_time = told
        self.begin(client, made)


EXAMPLES = int(os.environ.get("ARTISYNC_EXAMPLES", "100"))
"""More by hand: ARTISYNC_EXAMPLES=10000."""


@pytest.mark.timeout(60 + EXAMPLES)
def test_whatever_happens_nothing_is_mixed_or_stale_or_absent_without_cause() -> None:
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
