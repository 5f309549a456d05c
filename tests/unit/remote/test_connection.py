"""One connection over a server that answers in any order and in pieces of any size: right bytes, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, Session
from tests.unit.remote.one_connection import connected
from vfs.base.errors import LinkLost
from vfs.remote.sftp.wire import PacketType

pytestmark = pytest.mark.one_python

CONTENT = random.Random(6).randbytes(3_000_000)
BIG = b"/a/big"


@settings(max_examples=40, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 3_100_000), st.integers(0, 1 << 20)), min_size=1, max_size=5),
    pieces=st.lists(st.sampled_from([1, 2, 3, 5, 12, 13, 14, 100, 4096, 70_000, 1 << 20]), min_size=1),
    shortest=st.sampled_from([None, 1, 50_000, 200_000]),
    seed=st.integers(0, 1 << 32),
)
def test_bytes_are_right_in_whatever_order_and_pieces_they_come(
    spans: list[tuple[int, int]], pieces: list[int], shortest: int | None, seed: int
) -> None:
    """Also when the server sends less than was asked for, which it may [6.4]."""
    chance = random.Random(seed)
    if sum(pieces) / len(pieces) < 1000:
        spans = [(start, min(size, 20_000)) for start, size in spans]

    async def main(threads: Threads) -> None:
        server, session, connection, _ = await connected(threads, pieces=itertools.cycle(pieces))
        server.files[BIG] = CONTENT
        server.order = lambda answers: chance.sample(answers, len(answers))
        if shortest is not None:
            server.shorten = lambda size: chance.randint(min(size, shortest), size)
        handle = await connection.open(BIG)
        buffers = [bytearray(size) for _, size in spans]
        there: dict[int, bytes] = {}  # what each had when it was told that its bytes have come

        def note(at: int, buffer: bytearray) -> None:
            there[at] = bytes(buffer)

        answers = await asyncio.gather(
            *(
                connection.read(handle, start, memoryview(buffer), BIG, came=partial(note, at, buffer))
                for at, ((start, _), buffer) in enumerate(zip(spans, buffers, strict=True))
            )
        )
        assert [there[at] for at in range(len(spans))] == buffers
        for (start, size), buffer, (count, attributes) in zip(spans, buffers, answers, strict=True):
            want = CONTENT[start : start + size]
            assert count == len(want)
            assert buffer[:count] == want
            assert attributes.size == len(CONTENT)
        assert connection.in_flight == 0
        connection.close_handle(handle)
        await connection.lstat(BIG)
        assert session.handles == {}
        connection.close()

    run_engine(main)


def test_what_came_short_is_asked_for_once_more_and_nothing_else() -> None:
    async def main(threads: Threads) -> list[Asked]:
        server, _, connection, _ = await connected(threads, shorten=lambda size: min(size, 100 << 10))
        server.files[BIG] = CONTENT
        handle = await connection.open(BIG)
        buffer = bytearray(1 << 20)
        count, _ = await connection.read(handle, 0, memoryview(buffer), BIG)
        assert buffer[:count] == CONTENT[: 1 << 20]
        connection.close()
        return server.asked(PacketType.READ)

    reads = run_engine(main)
    assert sum(int.from_bytes(asked.tail[8:]) for asked in reads) < 3 << 20


def test_requests_keep_their_order_whichever_thread_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    share = itertools.cycle([1, 0, 1, 0.5])

    def send_now(session: Session, data: bytes) -> int:
        size = int(len(data) * next(share))
        session.send(data[:size])
        return size

    monkeypatch.setattr(Session, "send_now", send_now)

    async def main(threads: Threads) -> list[Asked]:
        server, session, connection, _ = await connected(threads)
        session.asked.clear()
        for _ in range(5):
            await asyncio.gather(*(connection.lstat(BIG) for _ in range(20)), return_exceptions=True)
        connection.close()
        return server.asked(PacketType.LSTAT)

    numbers = [asked.id for asked in run_engine(main)]
    assert len(numbers) == 100
    assert numbers == sorted(numbers)


def test_a_connection_ends_when_there_is_no_thread_to_send_what_has_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(threads: Threads) -> None:
        _, session, connection, lost = await connected(threads)
        monkeypatch.setattr(session, "send_now", lambda data: 0)
        threads.scarce = lambda name: name == "sftp writer"
        with pytest.raises(LinkLost):
            await connection.lstat(BIG)
        assert lost == [connection]
        assert str(connection.ended).startswith("cannot send")

    run_engine(main)
