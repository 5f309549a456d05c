"""Connections of the NFS server: what clients may do, and what ends them. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.lab.nfs_client import NfsClient, call, marked
from vfs.frontends.nfs import server as servers
from vfs.frontends.nfs.programs import Client, Programs
from vfs.frontends.nfs.server import NfsServer
from vfs.frontends.nfs.xdr import Malformed, Packer


class Memory:
    """Owns the memory of a reply."""


class Echo(Programs):
    """Answers with the record itself, once `gate` is open; `size` bytes follow. `kept`: the owners of such replies."""

    def __init__(self, size: int = 0) -> None:
        super().__init__({})
        self.gate = asyncio.Event()
        self.gate.set()
        self.size = size
        self.calls = 0
        self.trusted = True
        self.kept: weakref.WeakSet[Memory] = weakref.WeakSet()

    async def answer(self, record: bytes, client: Client) -> Packer:
        self.calls += 1
        client.trusted = self.trusted
        if record.startswith(b"bad"):
            raise Malformed("bad")
        await self.gate.wait()
        owner = Memory()
        self.kept.add(owner)
        return Packer().raw(record).last([memoryview(bytes(self.size))], owner)


Reading = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(programs: Programs, **options: bool) -> AsyncIterator[NfsServer]:
    server = NfsServer(programs, **{"privileged": False, **options})
    await server.start()
    try:
        yield server
    finally:
        server.close()


async def connected(server: NfsServer) -> Reading:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def record(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(size & 0x7FFFFFFF)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))  # type: ignore[arg-type]


async def ends(reader: asyncio.StreamReader) -> None:
    try:
        assert await reader.read() == b""
    except ConnectionError:
        pass


def test_calls_are_answered_as_they_are_done_and_each_once() -> None:
    async def story() -> None:
        programs = Echo()
        async with serving(programs) as server:
            reader, writer = await connected(server)
            programs.gate.clear()
            for body in (b"1111-a", b"2222-b", b"1111-a"):
                writer.write(marked(body, 3))
            while programs.calls < 2:
                await asyncio.sleep(0)
            programs.gate.set()
            assert {await record(reader), await record(reader)} == {b"1111-a", b"2222-b"}
            writer.write(marked(b"1111-a"))
            assert await record(reader) == b"1111-a"
            assert programs.calls == 3
            assert server.clients == 1
            writer.close()
            while server.clients:
                await asyncio.sleep(0)

    run(story)


@pytest.mark.parametrize(
    "sent", [b"\xff" * 8, b"\x7f\xff\xff\xff", marked(b"bad!"), b"GET / HTTP/1.1\r\n\r\n"]
)
def test_a_client_that_speaks_something_else_is_cut_off(sent: bytes) -> None:
    async def story() -> None:
        async with serving(Echo()) as server:
            reader, writer = await connected(server)
            writer.write(sent)
            await ends(reader)
            reader, writer = await connected(server)
            writer.write(marked(b"fine"))
            assert await record(reader) == b"fine"
            writer.close()

    run(story)


def test_what_a_client_does_not_take_is_bounded_and_comes_when_it_does() -> None:
    async def story() -> None:
        programs = Echo(size=1 << 20)
        async with serving(programs) as server:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", server.port))
            count = 200
            calls = b"".join(marked(b"%04d" % number) for number in range(count))
            await loop.sock_sendall(sock, calls)
            before = -1
            while before != programs.calls:  # until it stands still
                before = programs.calls
                await asyncio.sleep(0.2)
            assert programs.calls < count
            assert programs.calls <= servers.MOST_QUEUED // programs.size + servers.MOST_CALLS + 4
            reader, writer = await asyncio.open_connection(sock=sock)
            got = {(await record(reader))[:4] for _ in range(count)}
            assert got == {b"%04d" % number for number in range(count)}
            writer.close()

    run(story)


def test_memory_of_what_a_client_has_taken_is_let_go_though_it_always_waits_for_more() -> None:
    async def story() -> None:
        programs = Echo(size=4 << 20)
        async with serving(programs) as server:
            reader, writer = await connected(server)
            for number in range(4):
                writer.write(marked(b"%04d" % number))
            for number in range(4, 20):
                await record(reader)
                writer.write(marked(b"%04d" % number))
            assert len(programs.kept) < 8
            writer.close()

    run(story)


def test_who_stalls_or_never_shows_a_handle_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(servers, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(servers, "STRANGER_SECONDS", 0.5)

    async def story() -> None:
        programs = Echo()
        async with serving(programs) as server:
            idle, _ = await connected(server)
            half, writer = await connected(server)
            writer.write(marked(b"1111") + b"\x80\0")
            assert await record(half) == b"1111"
            await ends(half)
            await ends(idle)
            quiet, writer = await connected(server)
            writer.write(marked(b"1111"))
            assert await record(quiet) == b"1111"
            await asyncio.sleep(0.7)  # much longer than strangers and stalls are borne
            writer.write(marked(b"2222"))
            assert await record(quiet) == b"2222"
            writer.close()

    run(story)


def test_strangers_leave_room_for_others() -> None:
    async def story() -> None:
        async with serving(Echo()) as server:
            strangers = [await connected(server) for _ in range(servers.MOST_STRANGERS)]
            refused, _ = await connected(server)
            await ends(refused)
            for reader, writer in strangers:
                writer.write(marked(b"1111"))
                assert await record(reader) == b"1111"
            reader, writer = await connected(server)
            writer.write(marked(b"2222"))
            assert await record(reader) == b"2222"
            for _, writer in strangers:
                writer.close()
            writer.close()

    run(story)


def test_a_port_that_any_user_may_have_is_refused_where_the_systems_client_has_another() -> None:
    async def story() -> None:
        async with serving(Echo(), privileged=True) as server:
            reader, writer = await connected(server)
            await ends(reader)
            writer.close()
            if os.getuid() != 0:
                return
            for port in range(1023, 512, -1):
                try:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", server.port, local_addr=("127.0.0.1", port)
                    )
                except OSError:
                    continue
                break
            writer.write(marked(b"1111"))
            assert await record(reader) == b"1111"
            writer.close()

    run(story)


def test_the_end_of_the_server_ends_calls_under_way() -> None:
    async def story() -> None:
        programs = Echo()
        programs.gate.clear()
        async with serving(programs) as server:
            reader, writer = await connected(server)
            writer.write(marked(call(7, 100003, 0)))
            while not programs.calls:
                await asyncio.sleep(0)
        await ends(reader)
        writer.close()
        assert len(asyncio.all_tasks()) <= 2

    run(story)


def test_the_client_of_the_tests_speaks_over_a_socket_too() -> None:
    async def story() -> None:
        async with serving(Programs({})) as server:
            reader, writer = await connected(server)

            async def send(body: bytes) -> bytes:
                writer.write(marked(body))
                return await record(reader)

            with pytest.raises(Exception, match="0, 0, 0, 1"):
                await NfsClient(send).raw(100003, 0)
            writer.close()

    run(story)
