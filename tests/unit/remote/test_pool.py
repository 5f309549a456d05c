"""The pool: connections come and go, requests are asked again, and nobody waits longer than allowed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, FakeDialer, FakeServer, Session
from tests.unit.remote.one_pool import CONTENT, FILE, TIMEOUT, drop, fails, now, online
from vfs.base.errors import ConnectError, NoAnswer, Refused, Unreachable
from vfs.remote.connectivity import AWAY
from vfs.remote.path_model import PathModel
from vfs.remote.sftp import exchange as sftp
from vfs.remote.sftp import pool as pools
from vfs.remote.sftp.reconnecting import HURRIED, backoff
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.sftp.wire import PacketType


class Carries(PathModel):
    """A path that was measured: the bytes in flight that fill it."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.saw_rtt(0.05, 1.0, 0)
        self._window = window


def hush(server: FakeServer) -> None:
    """Let no connection that there is be answered any more."""
    for session in server.sessions:
        session.silent = True


# --- a link that goes down and comes back -------------------------------------------------------------------


def test_requests_go_over_a_lost_connection() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        file = await pool.open(FILE)
        server.sessions[-1].silent = True
        buffer = bytearray(1 << 20)
        questions = asyncio.gather(file.read(0, memoryview(buffer)), pool.lstat(FILE), pool.scandir(b"/a"))
        await asyncio.sleep(1)
        drop(server)
        (count, _), attributes, names = await questions
        assert buffer[:count] == CONTENT[: 1 << 20]
        assert attributes.size == len(CONTENT)
        assert [entry.name for entry in names] == [b"f"]
        assert pool.link.online
        file.close()
        for connection in pool.alive:  # what closes a handle goes before it
            await connection.lstat(FILE)
        assert server.handles == 0
        assert pool.in_flight == 0
        await pool.aclose()

    run_engine(main)


def test_a_read_goes_over_ten_seconds_without_a_link() -> None:
    async def main(threads: Threads) -> float:
        server, dialer, pool = await online(threads)
        file = await pool.open(FILE)
        dialer.refuse = lambda _: Refused("nothing listens")
        drop(server)
        began = now()
        asyncio.get_running_loop().call_later(10, setattr, dialer, "refuse", fake.nobody_refused)
        buffer = bytearray(1 << 20)
        count, _ = await file.read(0, memoryview(buffer))
        assert buffer[:count] == CONTENT[: 1 << 20]
        taken = now() - began
        await pool.aclose()
        return taken

    # the wait before the last attempt is 8 s, and half as much more at most
    assert 10 <= run_engine(main) <= 23


def test_a_dead_link_is_unreachable_after_the_timeout_and_then_at_once() -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads)
        dialer.refuse = lambda _: Refused("nothing listens")
        drop(server)
        assert TIMEOUT - 1 <= await fails(pool.lstat(FILE), Unreachable) <= TIMEOUT + 1
        assert not pool.link.online
        assert "nothing listens" in str(pool.last_error)
        for _ in range(20):
            assert await fails(pool.lstat(FILE), Unreachable) == 0
        await pool.aclose()

    run_engine(main)


def test_how_long_a_link_has_been_down_counts_from_when_the_server_ceased_to_answer() -> None:
    """Not from when it was noticed. It is noticed without anybody who asks."""

    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads)
        pool.timeout = 6.0
        dialer.refuse = lambda _: NoAnswer("black hole")
        server.sessions[-1].silent = True
        began = now()
        await asyncio.sleep(9)
        assert pool.link.connected
        assert not pool.link.online
        assert await fails(pool.lstat(FILE), Unreachable) <= 2.5
        assert began <= pool.link.since <= began + sftp.KEEPALIVE + 0.1
        assert await fails(pool.lstat(FILE), Unreachable) == 0
        await pool.aclose()

    run_engine(main)


def test_a_server_that_is_silent_for_long_counts_as_offline_until_it_answers_on_the_same_connection() -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads)
        server.sessions[-1].silent = True
        began = now()
        waiting = asyncio.ensure_future(pool.lstat(FILE))
        await asyncio.sleep(AWAY - 0.1)
        assert pool.link.online
        await asyncio.sleep(0.2)
        assert not pool.link.online
        assert began <= pool.link.since <= began + 0.1
        server.sessions[-1].silent = False
        assert (await pool.alive[0].lstat(FILE)).size == len(CONTENT)
        assert pool.link.online
        assert len(dialer.at) == 1
        waiting.cancel()
        await pool.aclose()

    run_engine(main)


def test_a_link_that_breaks_after_a_quiet_time_was_not_down_all_that_time() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        pool.timeout = 2.0
        await asyncio.sleep(0.9 * sftp.KEEPALIVE)
        broke = now()
        drop(server)
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        assert pool.link.since >= broke
        await pool.aclose()

    run_engine(main)


def test_the_link_is_silent_when_no_connection_brings_a_byte_though_others_were_asked_a_moment_ago() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads, latency=0.05)
        await asyncio.sleep(1)
        first, second, *_ = pool.alive
        for session in server.sessions:
            session.silent = True
        questions = [first.lstat(FILE)]
        await asyncio.sleep(1)
        questions.append(second.lstat(FILE))
        await asyncio.sleep(0.1)
        assert pool.link.silence == pytest.approx(1.1, abs=0.1)
        server.sessions[1].push(b"\0")  # the beginning of an answer
        await asyncio.sleep(0.1)
        assert pool.link.silence <= 0.2
        await pool.aclose()
        await asyncio.gather(*questions, return_exceptions=True)

    run_engine(main)


@pytest.mark.parametrize("scarce", ["connector", "sftp close", ""])
@pytest.mark.parametrize("noticed_by", [drop, hush])
def test_a_time_without_threads_ends_nothing_for_good(
    scarce: str, noticed_by: Callable[[FakeServer], None]
) -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        threads.scarce = lambda name: scarce in name
        noticed_by(server)
        await asyncio.sleep(120)
        threads.scarce = lambda name: False
        await asyncio.sleep(40)
        assert pool.link.online
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        assert all(session.closed for session in server.sessions[:-1])
        await pool.aclose()

    run_engine(main)


def test_connecting_is_tried_at_once_then_after_a_second_up_to_every_thirty() -> None:
    async def main(threads: Threads) -> list[float]:
        server, dialer, pool = await online(threads)
        dialer.refuse = lambda _: Refused("nothing listens")
        await asyncio.sleep(100)
        drop(server)
        began = now()
        await asyncio.sleep(300)
        await pool.aclose()
        return [at - began for at in dialer.at[1:]]

    tries = run_engine(main)
    assert tries[0] < 0.1
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    for attempt, wait in enumerate(waits):
        assert backoff(attempt, 1.0) - 0.01 <= wait <= backoff(attempt, 0.0) + 0.01
    assert len(waits) >= 10
    assert max(waits) <= 30.01


async def down_for_long(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> tuple[FakeServer, FakeDialer, SftpRemote]:
    """The pool of a server that was away and refused an attempt to connect 5 s ago; by backoff the next is 25 s ahead."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    server, dialer, pool = await online(threads)
    dialer.refuse = lambda _: Refused("nothing listens")
    drop(server)
    await asyncio.sleep(400)
    tried = len(dialer.at)
    while len(dialer.at) == tried:
        await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    return server, dialer, pool


def test_who_fails_because_the_link_is_down_fails_at_once_and_hurries_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(threads: Threads) -> None:
        _, dialer, pool = await down_for_long(threads, monkeypatch)
        dialer.refuse = fake.nobody_refused
        assert await fails(pool.lstat(FILE), Unreachable) == 0
        await asyncio.sleep(0.1)
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        await pool.aclose()

    run_engine(main)


def test_who_waits_for_the_hurried_attempt_has_the_link_that_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(threads: Threads) -> None:
        _, dialer, pool = await down_for_long(threads, monkeypatch)
        began = now()
        await pool.reconnecting.hurried()
        assert not pool.link.online
        dialer.refuse = fake.nobody_refused
        await pool.reconnecting.hurried()
        assert pool.link.online
        assert now() - began < HURRIED + 0.1
        await pool.reconnecting.hurried()  # nothing is attempted, nor waited for
        assert now() - began < HURRIED + 0.1
        await pool.aclose()

    run_engine(main)


def test_hurried_attempts_are_two_seconds_apart_and_those_of_backoff_are_made_when_they_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(threads: Threads) -> list[float]:
        _, dialer, pool = await down_for_long(threads, monkeypatch)
        last = len(dialer.at) - 1
        end = now() + 9.9
        while now() < end:
            pool.reconnecting.hurry()
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)
        await pool.aclose()
        return [at - dialer.at[last] for at in dialer.at[last + 1 :]]

    tries = run_engine(main)
    assert tries == pytest.approx([5, 7, 9, 11, 13, 15, 30, 60], abs=0.5)


def test_a_pool_that_was_moved_while_the_link_was_down_connects_at_once_when_it_is_lost_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await down_for_long(threads, monkeypatch)
        dialer.refuse = fake.nobody_refused
        await pool.move(dialer)
        await asyncio.sleep(1)
        drop(server)
        await asyncio.sleep(0.1)
        assert pool.link.online
        await pool.aclose()

    run_engine(main)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_backoff_is_one_to_thirty_seconds_shortened_by_up_to_a_half(chance: float) -> None:
    waits = [backoff(attempt, chance) for attempt in range(2000)]
    assert waits[0] == 1 - chance / 2
    assert waits == sorted(waits)
    assert waits[-1] == 30 * (1 - chance / 2)


def test_a_server_that_hangs_up_after_each_greeting_is_not_run_down() -> None:
    """Neither is it believed to be online."""

    async def main(threads: Threads) -> int:
        server, dialer, pool = await online(threads)
        await asyncio.sleep(100)
        connect = server.connect

        def connect_briefly() -> Session:
            session = connect()
            server.loop.call_soon_threadsafe(server.loop.call_later, 0.05, session.end)
            return session

        server.connect = connect_briefly  # type: ignore[method-assign]
        drop(server)
        await asyncio.sleep(300)
        tries = len(dialer.at)
        server.connect = connect  # type: ignore[method-assign]
        await asyncio.sleep(40)
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        await pool.aclose()
        return tries

    assert run_engine(main) < 40


def test_a_connection_that_ends_with_its_greeting_is_not_taken_for_one() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.text == fake.CLOCK:
                server.sessions[-1].end()
            return honest

        server.twist = twist
        drop(server)
        await asyncio.sleep(60)
        assert not pool.link.online
        server.twist = fake.honest
        await asyncio.sleep(60)
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        await pool.aclose()

    run_engine(main)


def test_a_connection_that_is_closing_is_no_link_that_is_down() -> None:
    """However long the link has been up."""

    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads)
        await asyncio.sleep(3600)
        pool.alive[0].close()
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        await pool.aclose()

    run_engine(main)


def test_whatever_a_dialer_raises_is_tried_again() -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads)

        def broken(_: int) -> ConnectError | None:
            raise ValueError("a library's own idea of an error")

        dialer.refuse = broken
        drop(server)
        await asyncio.sleep(100)
        assert not pool.link.online
        dialer.refuse = fake.nobody_refused
        await asyncio.sleep(40)
        assert pool.link.online
        await pool.aclose()

    run_engine(main)


def test_a_server_that_never_greets_is_no_answer_and_is_hung_up_on() -> None:
    async def main(threads: Threads) -> None:
        server = FakeServer(threads, twist=lambda asked, honest: b"")
        pool = SftpRemote(FakeDialer(server), TIMEOUT)
        assert await fails(pool.connect(), ConnectError) <= pools.DIAL_SECONDS + 1
        await pool.aclose()
        await asyncio.sleep(1)
        assert all(session.closed for session in server.sessions)

    run_engine(main)


def test_a_pool_that_is_closed_while_it_connects_leaves_nothing() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        server.latency = 1.0
        drop(server)
        await asyncio.sleep(0.5)  # the greeting is under way
        waiting = asyncio.ensure_future(pool.lstat(FILE))
        await asyncio.sleep(0.1)
        await pool.aclose()
        assert await fails(waiting, Unreachable) < 1
        await asyncio.sleep(5)
        assert all(session.closed or not session.open for session in server.sessions)

    run_engine(main)


# --- another address ----------------------------------------------------------------------------------------


def test_a_move_keeps_open_files_and_hangs_up_on_the_old_server() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        file = await pool.open(FILE)
        other = FakeServer(threads, {FILE: CONTENT})
        await pool.move(FakeDialer(other))
        buffer = bytearray(100)
        assert (await file.read(0, memoryview(buffer)))[0] == 100
        assert buffer == CONTENT[:100]
        assert other.asked(PacketType.READ)
        assert all(session.closed for session in server.sessions)
        await pool.aclose()

    run_engine(main)


def test_a_move_to_nowhere_keeps_the_old_server() -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads)
        nowhere = FakeDialer(server, refuse=lambda _: NoAnswer("no answer"))
        with pytest.raises(ConnectError):
            await pool.move(nowhere)
        assert (await pool.lstat(FILE)).size == len(CONTENT)
        drop(server)
        await pool.lstat(FILE)
        assert len(dialer.at) == 2
        await pool.aclose()

    run_engine(main)


def test_a_move_while_the_old_server_is_being_tried_does_not_bring_it_back() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        server.latency = 1.0
        drop(server)
        await asyncio.sleep(0.5)  # the old server is greeting again
        other = FakeServer(threads, {FILE: b"other"})
        await pool.move(FakeDialer(other))
        await asyncio.sleep(10)
        assert len(pool.alive) == 1
        assert (await pool.lstat(FILE)).size == 5
        await pool.aclose()

    run_engine(main)


# --- several connections ------------------------------------------------------------------------------------


def test_a_server_that_takes_one_connection_is_used_with_one() -> None:
    async def main(threads: Threads) -> None:
        server = FakeServer(threads, {FILE: CONTENT}, latency=0.05)
        dialer = FakeDialer(server, refuse=lambda open_now: ConnectError("too many") if open_now else None)
        pool = SftpRemote(dialer, TIMEOUT)
        await pool.connect()
        file = await pool.open(FILE)
        for start in range(0, len(CONTENT), 1 << 20):
            pool.backlog(100 << 20)
            buffer = bytearray(1 << 20)
            count, _ = await file.read(start, memoryview(buffer))
            assert buffer[:count] == CONTENT[start : start + (1 << 20)]
        assert len(pool.alive) == 1
        assert len(dialer.at) <= 5  # it is not asked again and again
        await pool.aclose()

    run_engine(main)


def test_over_a_long_link_more_connections_are_made_and_losing_one_loses_nothing() -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads, latency=0.05)
        pool.backlog(100 << 20)
        await asyncio.sleep(1)
        assert len(pool.alive) == 3
        file = await pool.open(FILE)
        buffers = [bytearray(1 << 20) for _ in range(4)]
        reading = [
            asyncio.ensure_future(file.read(at << 20, memoryview(buffer)))
            for at, buffer in enumerate(buffers)
        ]
        await asyncio.sleep(0.12)
        server.sessions[1].end()
        server.sessions[2].end()
        for at, (task, buffer) in enumerate(zip(reading, buffers, strict=True)):
            count, _ = await task
            assert buffer[:count] == CONTENT[at << 20 : (at + 1) << 20]
        assert pool.link.online
        await pool.aclose()

    run_engine(main)


def test_over_a_long_link_more_connections_are_there_before_anything_large_is_read() -> None:
    async def main(threads: Threads) -> None:
        _, dialer, pool = await online(threads, latency=0.05)
        await asyncio.sleep(1)
        assert len(pool.alive) == len(dialer.at) == 3
        await pool.aclose()
        _, dialer, limited = await online(threads, latency=0.05, window_limited=True)
        await asyncio.sleep(1)
        assert len(limited.alive) == len(dialer.at) == 7
        await limited.aclose()
        _, dialer, near = await online(threads)
        await asyncio.sleep(1)
        assert len(near.alive) == len(dialer.at) == 1
        await near.aclose()

    run_engine(main)


def test_once_the_server_is_far_the_connections_for_large_reads_are_made() -> None:
    async def main(threads: Threads) -> None:
        server, dialer, pool = await online(threads, latency=0.001)
        await asyncio.sleep(1)
        assert len(dialer.at) == 1
        server.latency = 0.12  # the same connection, from elsewhere
        for _ in range(8):
            await pool.lstat(FILE)
        await asyncio.sleep(3)
        assert len(pool.alive) == 3
        assert pool.link.rtt >= 0.12
        await pool.aclose()

    run_engine(main)


@pytest.mark.parametrize(
    ("opened", "spread"),
    [(12 << 20, [2, 2, 2, 2, 2, 2]), (5 << 19, [0, 0, 1, 1, 5, 5])],
    ids=["it is open on all", "it was shorter when it was opened"],
)
def test_large_reads_do_not_queue_where_the_file_is_open_while_other_connections_are_idle(
    opened: int, spread: list[int]
) -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads, latency=0.05, window_limited=True)
        server.files[b"/a/large"] = bytes(opened)
        await asyncio.sleep(1)
        file = await pool.open(b"/a/large")
        await asyncio.sleep(0.2)
        server.files[b"/a/large"] = bytes(12 << 20)
        reads = [file.read(at << 20, memoryview(bytearray(1 << 20))) for at in range(12)]
        large = [asyncio.ensure_future(read) for read in reads]
        await asyncio.sleep(0.01)
        quick, *wide = (one.in_flight >> 20 for one in pool.alive)
        assert (quick, sorted(wide)) == (0, spread)
        await asyncio.gather(*large)
        assert pool.in_flight == 0
        file.close()
        await pool.aclose()

    run_engine(main)


def test_what_little_is_in_flight_goes_over_one_connection() -> None:
    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads, latency=0.05, window_limited=True)
        await asyncio.sleep(1)
        file = await pool.open(FILE)
        await asyncio.sleep(0.2)
        reads = [file.read(at << 16, memoryview(bytearray(1 << 16)), bulk=True) for at in range(8)]
        bulk = [asyncio.ensure_future(read) for read in reads]
        await asyncio.sleep(0.01)
        assert sorted(one.in_flight for one in pool.alive)[-2:] == [0, 8 << 16]
        await asyncio.gather(*bulk)
        await pool.aclose()

    run_engine(main)


def test_over_connections_with_a_small_window_no_more_is_asked_than_keeps_them_busy() -> None:
    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads, latency=0.05, window_limited=True)
        pool.link.path = Carries(40 << 20)
        assert (len(pool.wide), pool.window) == (1, 3 << 20)
        await asyncio.sleep(1)
        assert (len(pool.wide), pool.window) == (6, 18 << 20)
        pool.link.path = Carries(8 << 20)
        assert pool.window == 8 << 20, "the path is what bounds it"
        await pool.aclose()

    run_engine(main)


def test_nothing_large_is_read_over_the_connection_for_what_is_small() -> None:
    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads, latency=0.05)
        await asyncio.sleep(1)
        quick, *wide = pool.alive
        file = await pool.open(FILE)
        await asyncio.sleep(0.2)
        buffers = [bytearray(1 << 20) for _ in range(4)]
        large = [
            asyncio.ensure_future(file.read(at << 20, memoryview(buffer)))
            for at, buffer in enumerate(buffers)
        ]
        await asyncio.sleep(0.01)
        assert (quick.in_flight, sum(one.in_flight for one in wide)) == (0, 4 << 20)
        small = asyncio.ensure_future(file.read(5000, memoryview(bytearray(100))))
        await asyncio.sleep(0.01)
        assert (quick.in_flight, sum(one.in_flight for one in wide)) == (100, 4 << 20)
        await asyncio.gather(small, *large)
        assert [bytes(buffer) for buffer in buffers] == [
            CONTENT[at << 20 : (at + 1) << 20] for at in range(4)
        ]
        await pool.aclose()

    run_engine(main)


def test_a_link_that_is_lost_again_and_again_and_answers_in_between_is_tried_every_second() -> None:
    """However little it was asked."""

    async def main(threads: Threads) -> list[float]:
        server, dialer, pool = await online(threads)
        end = now() + 100
        while now() < end:
            drop(server)
            assert (await pool.lstat(FILE)).size == len(CONTENT)
        await pool.aclose()
        return [later - earlier for earlier, later in itertools.pairwise(dialer.at[1:])]

    waits = run_engine(main)
    assert max(waits) <= 1.01
    assert min(waits[1:]) >= 0.49
