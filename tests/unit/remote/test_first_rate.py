"""How fast a path is, told before anybody reads."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import FakeDialer, FakeServer
from tests.unit.remote.one_pool import FILE, TIMEOUT
from vfs.remote.sftp.first_rate import SOURCE
from vfs.remote.sftp.path_model import OTHER, START
from vfs.remote.sftp.pool import Pool
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.sftp.wire import PacketType

RTT = 0.05


async def opened(
    threads: Threads, files: dict[bytes, bytes], *, latency: float = RTT, measure: bool = True
) -> Pool:
    server = FakeServer(threads, files, latency=latency)
    pool = Pool(FakeDialer(server), TIMEOUT)
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


@pytest.mark.parametrize("measure", [True, False])
def test_a_path_that_becomes_another_one_under_open_connections_is_measured_again(measure: bool) -> None:
    async def main(threads: Threads) -> None:
        server = FakeServer(threads, {SOURCE: bytes(1 << 20), FILE: b"x"}, latency=0.001)
        pool = Pool(FakeDialer(server), TIMEOUT)
        await pool.connect(measure=measure)
        pool.link.path.saw_first(1e9)
        assert not server.asked(PacketType.OPEN)
        server.latency = 0.12
        remote = SftpRemote(pool)
        for _ in range(OTHER):
            await remote.lstat(FILE)
        await asyncio.sleep(1)
        assert (pool.link.path.window > 4 * START) == measure
        await pool.aclose()

    run_engine(main)
