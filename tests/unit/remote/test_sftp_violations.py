"""A server that breaks the protocol: the connection is dropped, nothing hangs, memory is bounded."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, Twist
from tests.unit.remote.one_connection import FILE, connected, entry, lstat, read, realpath, scandir, statvfs
from vfs.base.errors import LinkLost, ProtocolViolation
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.wire import MAX_PACKET, Code, PacketType

U32 = struct.Struct(">I")


@dataclass
class Hostile:
    """What is sent in place of the honest answer to requests of a kind, and what asks for it."""

    kind: PacketType
    asks: Callable[[Connection], Awaitable[object]]
    says: Twist

    def twist(self, asked: Asked, honest: bytes) -> bytes:
        about_file = asked.text != fake.CLOCK
        return self.says(asked, honest) if asked.kind == self.kind and about_file else honest


def flags(mask: int, *numbers: int) -> bytes:
    return struct.pack(f">{len(numbers) + 1}I", mask, *numbers)


VIOLATIONS: dict[str, Hostile] = {
    "a length of 4 GiB": Hostile(PacketType.LSTAT, lstat, lambda asked, honest: b"\xff" * 4 + honest[4:]),
    "a length of zero": Hostile(PacketType.LSTAT, lstat, lambda asked, honest: bytes(4) + honest[4:]),
    "a packet one byte too long": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: U32.pack(MAX_PACKET + 1) + bytes(MAX_PACKET + 1)
    ),
    "a packet cut short in its fields": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.text(honest[4:-3])
    ),
    "bytes too many in a packet": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.text(honest[4:] + b"!")
    ),
    "garbage": Hostile(PacketType.LSTAT, lstat, lambda asked, honest: b"Last login: today\r\n"),
    "an id that was never used": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: honest[:5] + U32.pack(asked.id + 1000) + honest[9:]
    ),
    "an answer twice": Hostile(PacketType.OPEN, read, lambda asked, honest: honest + honest),
    "an answer before it was asked for": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.status(asked.id + 1, Code.OK) + honest
    ),
    "a second greeting": Hostile(PacketType.LSTAT, lstat, lambda asked, honest: fake.version()),
    "a type that does not exist": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: honest[:4] + b"\x63" + honest[5:]
    ),
    "a handle where attributes are due": Hostile(
        PacketType.LSTAT,
        lstat,
        lambda asked, honest: fake.packet(PacketType.HANDLE, asked.id, fake.text(b"h")),
    ),
    "data where attributes are due": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.data(asked.id, b"x")
    ),
    "data where a handle is due": Hostile(
        PacketType.OPEN, read, lambda asked, honest: fake.data(asked.id, b"x")
    ),
    "success without attributes": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.status(asked.id, Code.OK)
    ),
    "success without data": Hostile(
        PacketType.READ, read, lambda asked, honest: fake.status(asked.id, Code.OK)
    ),
    "attributes where data are due": Hostile(
        PacketType.READ,
        read,
        lambda asked, honest: fake.packet(PacketType.ATTRS, asked.id, fake.attributes(0, 0)),
    ),
    "data of no length": Hostile(PacketType.READ, read, lambda asked, honest: fake.data(asked.id, b"")),
    "data longer than its packet": Hostile(
        PacketType.READ, read, lambda asked, honest: honest[:9] + U32.pack(len(honest)) + honest[13:]
    ),
    "data shorter than its packet": Hostile(
        PacketType.READ, read, lambda asked, honest: honest[:9] + U32.pack(10) + honest[13:]
    ),
    "a handle of 257 bytes": Hostile(
        PacketType.OPEN,
        read,
        lambda asked, honest: fake.packet(PacketType.HANDLE, asked.id, fake.text(b"h" * 257)),
    ),
    "a negative size": Hostile(
        PacketType.LSTAT,
        lstat,
        lambda asked, honest: fake.packet(PacketType.ATTRS, asked.id, fake.attributes(0o100644, 2**64 - 1)),
    ),
    "a negative size, and nothing else": Hostile(
        PacketType.LSTAT,
        lstat,
        lambda asked, honest: fake.packet(PacketType.ATTRS, asked.id, flags(1, 2**31, 0)),
    ),
    "attributes of an unknown kind": Hostile(
        PacketType.LSTAT, lstat, lambda asked, honest: fake.packet(PacketType.ATTRS, asked.id, flags(0x10, 0))
    ),
    "four billion extended attributes": Hostile(
        PacketType.LSTAT,
        lstat,
        lambda asked, honest: fake.packet(PacketType.ATTRS, asked.id, flags(0x80000000, 2**32 - 1)),
    ),
    "four billion names": Hostile(
        PacketType.READDIR,
        scandir,
        lambda asked, honest: fake.packet(PacketType.NAME, asked.id, b"\xff" * 4 + honest[13:]),
    ),
    "a name that runs over its packet": Hostile(
        PacketType.READDIR,
        scandir,
        lambda asked, honest: fake.packet(PacketType.NAME, asked.id, flags(1, 2**31) + bytes(40)),
    ),
    "no real path": Hostile(PacketType.REALPATH, realpath, lambda asked, honest: fake.names(asked.id, [])),
    "two real paths": Hostile(
        PacketType.REALPATH,
        realpath,
        lambda asked, honest: fake.names(asked.id, [entry(b"/a"), entry(b"/b")]),
    ),
    "a real path that is none": Hostile(
        PacketType.REALPATH, realpath, lambda asked, honest: fake.names(asked.id, [entry(b"a/f")])
    ),
    "a real path with a NUL": Hostile(
        PacketType.REALPATH, realpath, lambda asked, honest: fake.names(asked.id, [entry(b"/a/..\0/f")])
    ),
    "figures of the wrong length": Hostile(
        PacketType.EXTENDED,
        statvfs,
        lambda asked, honest: (
            honest if b"limits" in asked.text else fake.packet(PacketType.EXTENDED_REPLY, asked.id, bytes(80))
        ),
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_ends_the_connection_and_all_that_waits_on_it(name: str) -> None:
    hostile = VIOLATIONS[name]

    def twist(asked: Asked, honest: bytes) -> bytes:
        return b"" if asked.text == b"/a/g" else hostile.twist(asked, honest)

    async def main(threads: Threads) -> None:
        _, session, connection, lost = await connected(threads, twist)
        waiting = connection.stat(b"/a/g")
        with pytest.raises(ProtocolViolation):
            await hostile.asks(connection)
        with pytest.raises(LinkLost):
            await waiting
        assert session.closed
        assert not connection.alive
        assert lost == [connection]
        assert connection.in_flight == 0
        with pytest.raises(LinkLost):
            await connection.lstat(FILE)

    run_engine(main)


GREETINGS: dict[str, bytes] = {
    "a login banner": b"Welcome to the cluster\n" * 10,
    "an HTTP server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "version 2": fake.version(2),
    "version 6": fake.version(6),
    "a failure": fake.status(3, Code.FAILURE),
    "an extension cut short": fake.text(
        bytes([PacketType.VERSION]) + U32.pack(3) + U32.pack(100) + b"limits"
    ),
    "all ones": b"\xff" * 100,
    "all zeros": bytes(100),
}


@pytest.mark.parametrize("name", GREETINGS)
def test_a_greeting_that_is_not_of_version_3_ends_the_connection(name: str) -> None:
    def twist(asked: Asked, honest: bytes) -> bytes:
        return GREETINGS[name] if asked.kind == PacketType.INIT else honest

    async def main(threads: Threads) -> None:
        with pytest.raises(ProtocolViolation):
            await connected(threads, twist)

    run_engine(main)


def test_memory_is_bounded_whatever_lengths_are_told() -> None:
    async def main(threads: Threads) -> int:
        _, _, connection, _ = await connected(
            threads,
            lambda asked, honest: (
                U32.pack(MAX_PACKET) + honest[4:] if asked.kind == PacketType.READ else honest
            ),
        )
        tracemalloc.start()
        reading = asyncio.ensure_future(read(connection))
        with pytest.raises(LinkLost):
            await reading
        return tracemalloc.get_traced_memory()[1]

    try:
        assert run_engine(main) < 2 << 20
    finally:
        tracemalloc.stop()
