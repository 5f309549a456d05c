"""What a metered link allows."""

from __future__ import annotations

from tests.lab.engine_threads import Threads, run_engine
from tests.unit.remote.one_pool import online
from vfs.remote.path_model import FIRST_SPARE, START
from vfs.remote.sftp.sftp_remote import METERED_AHEAD


def test_on_a_metered_link_little_is_ahead() -> None:
    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads, latency=0.05)
        assert (pool.window, pool.allowed, pool.spare) == (START, START, FIRST_SPARE)
        assert pool.early == FIRST_SPARE
        pool.metered = True
        assert pool.window == pool.allowed == pool.spare == METERED_AHEAD
        assert pool.early == 0
        await pool.aclose()

    run_engine(main)
