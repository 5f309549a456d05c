"""A pool that is connected to a server in memory."""

from __future__ import annotations

import pytest

from tests.lab.engine_threads import Threads
from tests.lab.fake_server import FakeDialer, FakeServer
from tests.lab.waiting import now
from vfs.remote.sftp.sftp_remote import SftpRemote

FILE = b"/a/f"
CONTENT = bytes(range(256)) * 20_000
TIMEOUT = 30.0


async def online(
    threads: Threads, *, window_limited: bool = False, **options: object
) -> tuple[FakeServer, FakeDialer, SftpRemote]:
    """A server, and a pool that is connected to it."""
    server = FakeServer(threads, {FILE: CONTENT}, **options)  # type: ignore[arg-type]
    dialer = FakeDialer(server, window_limited)
    pool = SftpRemote(dialer, TIMEOUT)
    await pool.connect()
    return server, dialer, pool


def drop(server: FakeServer) -> None:
    for session in server.sessions:
        session.end()


async def fails(question: object, kind: type[Exception]) -> float:
    """How long it takes to fail so."""
    began = now()
    with pytest.raises(kind):
        await question  # type: ignore[misc]
    return now() - began


async def remote(threads: Threads, **options: object) -> tuple[FakeServer, SftpRemote]:
    """As `online`, without the dialer."""
    server, _, pool = await online(threads, **options)  # type: ignore[arg-type]
    return server, pool
