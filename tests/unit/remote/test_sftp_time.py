"""Dead, slow and idle links, and requests that nobody waits for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked
from tests.lab.waiting import now
from tests.unit.remote import one_pool
from tests.unit.remote.one_connection import FILE, connected, lstat, read, scandir
from vfs.base.errors import LinkLost
from vfs.remote.sftp import exchange as sftp
from vfs.remote.sftp import listing
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.wire import PacketType


def test_a_connection_closed_in_the_middle_of_an_answer_is_lost() -> None:
    async def main(threads: Threads) -> None:
        _, session, connection, lost = await connected(
            threads, lambda asked, honest: honest[:50_000] if asked.kind == PacketType.READ else honest
        )
        reading = asyncio.ensure_future(read(connection))
        await asyncio.sleep(1)
        session.end()
        with pytest.raises(LinkLost):
            await reading
        assert lost == [connection]

    run_engine(main)


@pytest.mark.parametrize(("names", "round_trips"), [(1, 2), (98, 2), (99, 3)])
def test_most_directories_are_listed_in_two_round_trips(names: int, round_trips: int) -> None:
    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(threads, latency=0.1)
        server.files.update({b"/many/%d" % number: b"" for number in range(names)})
        began = now()
        assert len(await listing.scandir(connection, b"/many")) == names
        assert now() - began == pytest.approx(round_trips * 0.1)
        connection.close()

    run_engine(main)


@pytest.mark.parametrize("asks", [lstat, read, scandir], ids=lambda asks: asks.__name__)
def test_a_request_that_was_given_up_leaves_no_handle(
    asks: Callable[[Connection], Awaitable[object]],
) -> None:
    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(threads)
        server.latency = 1.0
        for patience in (0.5, 1.5, 2.5, 3.5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(patience):
                    await asks(connection)
                    raise TimeoutError
            await asyncio.sleep(10)
            # The handle of a file that was opened is its reader's to close.
            assert server.handles == 0 or asks is read
        connection.close()

    run_engine(main)


def test_a_server_that_answers_nothing_is_given_up_within_seconds() -> None:
    async def main(threads: Threads) -> float:
        _, session, connection, lost = await connected(threads)
        session.silent = True
        began = asyncio.get_running_loop().time()
        with pytest.raises(LinkLost, match="no answer"):
            await connection.lstat(FILE)
        assert lost == [connection]
        return asyncio.get_running_loop().time() - began

    assert sftp.DEAD_AFTER <= run_engine(main) <= sftp.DEAD_AFTER + 2


def test_a_keepalive_finds_an_idle_link_that_is_dead() -> None:
    async def main(threads: Threads) -> float:
        _, session, connection, lost = await connected(threads)
        await asyncio.sleep(100)
        assert connection.alive
        session.silent = True
        began = asyncio.get_running_loop().time()
        while not lost:
            await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time() - began

    assert run_engine(main) <= sftp.KEEPALIVE + sftp.DEAD_AFTER + 2


def test_an_idle_connection_sends_nothing_but_a_keepalive_now_and_then() -> None:
    async def main(threads: Threads) -> None:
        _, session, connection, _ = await connected(threads)
        before = len(session.asked)
        await asyncio.sleep(3600)
        assert 0 < len(session.asked) - before <= 3600 / sftp.KEEPALIVE
        connection.close()

    run_engine(main)


def test_a_slow_link_is_not_taken_for_a_dead_one() -> None:
    async def main(threads: Threads) -> None:
        server, session, connection, _ = await connected(threads)
        session.silent = True
        reading = asyncio.ensure_future(read(connection))
        await asyncio.sleep(1)
        answer = fake.packet(PacketType.HANDLE, server.asked(PacketType.OPEN)[0].id, fake.text(b"1"))
        for byte in answer:  # a byte every four seconds
            session.push(bytes([byte]))
            await asyncio.sleep(sftp.DEAD_AFTER - 1)
        assert connection.alive
        reading.cancel()
        connection.close()

    run_engine(main)


def test_a_request_that_is_never_answered_while_others_are_ends_the_connection() -> None:
    async def main(threads: Threads) -> float:
        _, _, connection, _ = await connected(
            threads,
            lambda asked, honest: b"" if asked.kind == PacketType.STAT and asked.text == FILE else honest,
        )
        began = asyncio.get_running_loop().time()
        waiting = connection.stat(FILE)
        while not waiting.done():
            await asyncio.sleep(0.5)
            if connection.alive:
                await connection.lstat(FILE)
        with pytest.raises(LinkLost):
            await waiting
        return asyncio.get_running_loop().time() - began

    assert run_engine(main) <= sftp.OVERTAKEN + 3


def test_the_servers_clock_is_not_estimated_ahead_of_it_by_a_slow_answer() -> None:
    async def main(threads: Threads) -> float:
        _, _, connection, _ = await connected(threads, latency=3.0)
        connection.close()
        assert connection.server_clock is not None
        told, at = connection.server_clock
        return told + asyncio.get_running_loop().time() - at

    assert run_engine(main) <= fake.NOW


def test_a_server_of_one_process_tells_its_time_by_the_processes_that_began_since() -> None:
    """/proc/self is as old there as its first client."""

    async def main(threads: Threads) -> None:
        now = int(time.time())
        young = 0

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.text == fake.CLOCK:
                return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(0o40555, 0, now - 500))
            if asked.kind == PacketType.READDIR and honest[4] == PacketType.NAME:
                times = {b"1": now - 9000, b"777": young, b"uptime": now + 9000}
                return fake.names(asked.id, [(n, fake.attributes(0o40555, 0, t)) for n, t in times.items()])
            return honest

        server, remote = await one_pool.remote(threads, twist=twist)
        told = remote.link.server_time
        assert told is not None
        assert now - 502 <= told <= now - 490
        server.files[b"/proc/uptime"] = b""
        young = now
        for session in server.sessions:
            session.end()
        await asyncio.sleep(5)
        told = remote.link.server_time
        assert told is not None
        assert now - 1 <= told <= now + 6
        assert server.handles == 0
        await remote.aclose()

    run_engine(main)


def test_a_greeting_that_was_there_before_is_no_round_trip() -> None:
    async def main(threads: Threads) -> None:
        session = fake.FakeServer(threads, latency=0.2).connect()
        await asyncio.sleep(1)
        connection = Connection(session, lambda _: None)
        await connection.start()
        assert connection.rtt == pytest.approx(0.2, abs=0.01)
        connection.close()

    run_engine(main)
