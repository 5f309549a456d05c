"""What is known of the link: the server's clock, the rate."""

from __future__ import annotations

import asyncio

from tests.lab.virtual_time import run_virtual
from vfs.remote.sftp.connectivity import SILENCE, Link


def test_the_servers_time_goes_on_from_when_it_was_told_and_is_not_ours_until_then() -> None:
    async def main() -> None:
        link = Link()
        assert link.server_time is None
        link.saw_clock(None)
        assert link.server_time is None
        link.saw_clock((1_600_000_000, asyncio.get_running_loop().time()))
        await asyncio.sleep(10)
        assert link.server_time == 1_600_000_010

    run_virtual(main())


def test_patience_follows_the_round_trips_of_late_up_and_down() -> None:
    async def main() -> None:
        link = Link()
        assert link.patience == SILENCE
        link.saw_rtt(0.01)
        assert link.patience == SILENCE
        for _ in range(50):
            link.saw_rtt(0.2)  # the way became longer, over the same connections
        assert 0.7 < link.patience < 0.9
        assert link.rtt == 0.01
        link.saw_rtt(3.0)  # one pause
        assert link.patience > 2
        for _ in range(50):
            link.saw_rtt(0.01)
        assert link.patience == SILENCE
        link.saw_rtt(1.0)
        link.new_way()
        assert (link.rtt, link.patience) == (0.0, SILENCE)

    run_virtual(main())
