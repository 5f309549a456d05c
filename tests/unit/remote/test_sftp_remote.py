"""What a metered link allows."""

from __future__ import annotations

from tests.lab.engine_threads import Threads, run_engine
from tests.unit.remote.one_pool import online
from vfs.remote.sftp.path_model import FIRST_SPARE, START
from vfs.remote.sftp.sftp_remote import METERED_AHEAD, SftpRemote


def test_on_a_metered_link_little_is_ahead() -> None:
    async def main(threads: Threads) -> None:
        _, _, pool = await online(threads, latency=0.05)
        plain, metered = SftpRemote(pool), SftpRemote(pool, metered=True)
        assert (plain.window, plain.allowed, plain.spare) == (START, START, FIRST_SPARE)
        assert metered.window == metered.allowed == metered.spare == METERED_AHEAD
        assert (plain.early, metered.early) == (FIRST_SPARE, 0)
        await pool.aclose()

    run_engine(main)
