"""A file that is open on several connections."""

from __future__ import annotations

import asyncio
from typing import cast

from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.handles import Handle
from vfs.remote.sftp.pool import Pool
from vfs.remote.sftp.pool_file import PoolFile

HANDLE = Handle(b"handle", 0.0, None)


class FakeConnection:
    """Opens when the test says so; notes what is closed."""

    alive = True

    def __init__(self) -> None:
        self.opening: asyncio.Future[Handle] = asyncio.get_running_loop().create_future()
        self.closed: list[Handle] = []

    def open(self, path: bytes) -> asyncio.Future[Handle]:
        return self.opening

    def close_handle(self, handle: Handle) -> None:
        self.closed.append(handle)


def test_a_handle_that_comes_after_the_file_was_closed_is_closed_on_the_server() -> None:
    async def run() -> list[Handle]:
        connection = FakeConnection()
        file = PoolFile(cast(Pool, None), b"/f")
        file._handle(cast(Connection, connection))
        file.close()
        assert connection.closed == []
        connection.opening.set_result(HANDLE)
        await asyncio.sleep(0)
        return connection.closed

    assert asyncio.run(run()) == [HANDLE]


def test_a_handle_that_is_there_is_closed_at_once() -> None:
    async def run() -> list[Handle]:
        connection = FakeConnection()
        file = PoolFile(cast(Pool, None), b"/f")
        connection.opening.set_result(HANDLE)
        file._handle(cast(Connection, connection))
        file.close()
        return list(connection.closed)

    assert asyncio.run(run()) == [HANDLE]
