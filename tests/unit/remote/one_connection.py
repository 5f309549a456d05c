"""A connection to a server in memory, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads
from tests.lab.fake_server import FakeServer, Session, Twist
from vfs.remote.sftp import listing
from vfs.remote.sftp.connection import Connection

FILE = b"/a/f"
FILES = {FILE: b"x" * 100_000, b"/a/g": b"y"}


async def read(connection: Connection) -> object:
    return await connection.read(await connection.open(FILE), 0, memoryview(bytearray(100_000)), FILE)


def lstat(connection: Connection) -> Awaitable[object]:
    return connection.lstat(FILE)


def scandir(connection: Connection) -> Awaitable[object]:
    return listing.scandir(connection, b"/a")


def realpath(connection: Connection) -> Awaitable[object]:
    return connection.realpath(FILE)


def statvfs(connection: Connection) -> Awaitable[object]:
    return connection.statvfs(FILE)


def entry(name: bytes) -> tuple[bytes, bytes]:
    return name, fake.attributes(0o100644, 1)


async def connected(
    threads: Threads, twist: Twist = fake.honest, **options: Any
) -> tuple[FakeServer, Session, Connection, list[Connection]]:
    """A server, the connection to it after the handshake, its end there, and the list of connections that were lost.

    `options` as for `FakeServer`.
    """
    server = FakeServer(threads, dict(FILES), twist=twist, **options)
    server.extensions[b"statvfs@openssh.com"] = b"2"
    session = server.connect()
    lost: list[Connection] = []
    connection = Connection(session, lost.append)
    await connection.start()
    return server, session, connection, lost
