"""What was a file when it was looked at is a directory or a FIFO when it is opened."""

from __future__ import annotations

import asyncio
import stat

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, FakeServer
from tests.unit.remote.one_pool import FILE, drop, fails, remote
from vfs.base.errors import NotAFile
from vfs.remote.sftp.wire import Code, PacketType

ENOUGH = 15.0
"""Seconds: a connection that is blocked is given up after 5 to 7, and another is made."""


def becomes_directory(server: FakeServer) -> None:
    server.files = {FILE + b"/in": b""}


def becomes_fifo(server: FakeServer) -> list[int]:
    """OPEN blocks the session from now on; how many there were."""
    opened = [0]

    def twist(asked: Asked, honest: bytes) -> bytes:
        if asked.text != FILE:
            return honest
        if asked.kind == PacketType.OPEN:
            opened[0] += 1
            server.sessions[-1].silent = True
        if asked.kind in (PacketType.STAT, PacketType.LSTAT):
            return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(stat.S_IFIFO | 0o644, 0))
        return honest

    server.twist = twist
    return opened


@pytest.mark.parametrize("refused", [False, True], ids=["OPEN succeeds", "OPEN is refused"])
def test_a_directory_is_told_from_a_failure(refused: bool) -> None:
    """Also when it is found in the middle of a file, after the link was lost."""

    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        file = await pool.open(FILE)
        becomes_directory(server)
        if refused:
            server.twist = lambda asked, honest: (
                fake.status(asked.id, Code.FAILURE) if asked.kind == PacketType.OPEN else honest
            )
        await fails(pool.open(FILE), NotAFile)
        drop(server)
        await fails(file.read(0, memoryview(bytearray(1000))), NotAFile)
        await pool.aclose()

    run_engine(main)


def test_a_fifo_blocks_one_connection_and_no_more() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        opened = becomes_fifo(server)
        others = asyncio.ensure_future(pool.lstat(b"/a"))
        assert await fails(pool.open(FILE), NotAFile) < ENOUGH
        assert opened == [1]
        assert (await others).is_dir
        await pool.aclose()

    run_engine(main)


def test_a_fifo_in_the_place_of_a_file_that_is_read_blocks_one_connection_and_no_more() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        file = await pool.open(FILE)
        opened = becomes_fifo(server)
        drop(server)
        assert await fails(file.read(0, memoryview(bytearray(1000))), NotAFile) < ENOUGH
        assert opened == [1]
        await pool.aclose()

    run_engine(main)
