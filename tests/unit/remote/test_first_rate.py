"""How fast a path is, told before anybody reads."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import FakeDialer, FakeServer
from tests.lab.virtual_time import run_virtual
from tests.unit.remote.one_pool import FILE, TIMEOUT
from vfs.remote.api import Attributes
from vfs.remote.path_model import OTHER, START
from vfs.remote.sftp.first_rate import SOURCE, first_rate
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.sftp.wire import PacketType

RTT = 0.05


async def opened(
    threads: Threads, files: dict[bytes, bytes], *, latency: float = RTT, measure: bool = True
) -> SftpRemote:
    server = FakeServer(threads, files, latency=latency)
    pool = SftpRemote(FakeDialer(server), TIMEOUT)
    await pool.connect(measure=measure)
    await asyncio.sleep(1)
    assert not server.sessions[0].handles
    assert bool(server.asked(PacketType.OPEN)) == (measure and latency > 0.003)
    return pool


@pytest.mark.parametrize("latency", [RTT, 0.012])
def test_a_fast_path_to_a_far_server_is_known_before_the_first_read(latency: float) -> None:
    async def main(threads: Threads) -> None:
        pool = await opened(threads, {SOURCE: bytes(1 << 20)}, latency=latency)
        assert pool.link.path.window > 4 * START
        assert pool.link.path.spare > 4 * START
        assert not pool.link.path.measured
        await pool.aclose()

    run_engine(main)


@pytest.mark.parametrize(
    ("latency", "measure", "files"),
    [(RTT, True, {}), (RTT, False, {SOURCE: bytes(1 << 20)}), (0.0, True, {SOURCE: bytes(1 << 20)})],
    ids=["a server without the device", "metered", "a near server"],
)
def test_nothing_is_assumed_where_nothing_is_told(
    latency: float, measure: bool, files: dict[bytes, bytes]
) -> None:
    async def main(threads: Threads) -> None:
        pool = await opened(threads, files, latency=latency, measure=measure)
        assert pool.link.path.window == START
        await pool.aclose()

    run_engine(main)


class SlowConnection:
    """It answers in turn, at `rate` bytes per second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    async def open(self, path: bytes) -> bytes:
        return path

    async def read(self, handle: bytes, offset: int, into: memoryview, path: bytes) -> tuple[int, Attributes]:
        now = asyncio.get_running_loop().time()
        self._free = max(self._free, now + RTT) + len(into) / self._rate
        await asyncio.sleep(self._free - now)
        return len(into), Attributes(0)

    def close_handle(self, handle: bytes) -> None:
        pass


@pytest.mark.parametrize("mbit", [5, 20, 100])
def test_a_slow_path_does_not_look_fast_when_its_round_trip_was_measured_in_a_busy_moment(
    mbit: float,
) -> None:
    rate = mbit * 125_000
    for extra in (0.0, 0.02, 0.2):
        told = run_virtual(first_rate(SlowConnection(rate), RTT + extra))  # type: ignore[arg-type]
        assert told == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("measure", [True, False])
def test_a_path_that_becomes_another_one_under_open_connections_is_measured_again(measure: bool) -> None:
    async def main(threads: Threads) -> None:
        server = FakeServer(threads, {SOURCE: bytes(1 << 20), FILE: b"x"}, latency=0.001)
        pool = SftpRemote(FakeDialer(server), TIMEOUT)
        await pool.connect(measure=measure)
        pool.link.path.saw_first(1e9)
        assert not server.asked(PacketType.OPEN)
        server.latency = 0.12
        for _ in range(OTHER):
            await pool.lstat(FILE)
        await asyncio.sleep(1)
        assert (pool.link.path.window > 4 * START) == measure
        await pool.aclose()

    run_engine(main)
