"""What is known of the link: the server's clock, the rate."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.lab.virtual_time import run_virtual
from vfs.remote.connectivity import SILENCE, Link


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
        link.saw_rtt(3.0)  # one pause
        assert link.patience > 2
        for _ in range(50):
            link.saw_rtt(0.01)
        assert link.patience == SILENCE
        link.saw_rtt(1.0)
        link.new_way()
        assert (link.rtt, link.patience) == (0.0, SILENCE)

    run_virtual(main())


@pytest.mark.parametrize("rtt", [0.03, 0.06, 0.15])
def test_stalls_of_300_ms_on_a_link_that_jitters_make_it_neither_offline_nor_impatient_for_long(
    rtt: float,
) -> None:
    async def main() -> None:
        silence = 0.0
        link = Link(lambda: silence)
        link.changed(True, 0.0)
        chance = random.Random(1)
        for number in range(1000):
            stall = 0.3 if number % 30 == 29 else 0.0
            silence = max(0.0, rtt + chance.uniform(-0.03, 0.03)) + stall
            assert link.online
            assert stall or link.patience >= silence or number == 0
            link.saw_rtt(silence)
            assert link.patience < 0.3 + 8 * (rtt + 0.03)

    run_virtual(main())


def test_a_silent_link_is_offline_since_the_last_byte() -> None:
    async def main() -> None:
        silence = 0.0
        link = Link(lambda: silence)
        link.changed(True, came_up := asyncio.get_running_loop().time())
        await asyncio.sleep(60)
        silence = 9.0
        assert not link.online
        assert link.since == came_up + 60 - 9
        silence = 0.0
        assert link.online
        assert link.since == came_up

    run_virtual(main())


def test_of_several_clocks_that_may_be_late_the_latest_counts_until_the_way_is_another_one() -> None:
    async def main() -> None:
        link, now = Link(), asyncio.get_running_loop().time()
        for told in (1_600_000_000, 1_600_000_039, 1_600_000_010):
            link.saw_clock((told, now))
        assert link.server_time == link.past == 1_600_000_039
        link.new_way()
        assert link.server_time is link.past is None

    run_virtual(main())


def test_where_no_clock_is_told_what_lies_a_day_before_the_newest_file_is_past() -> None:
    async def main() -> None:
        link = Link()
        for mtime in (1_600_000_000, 1_600_500_000, 1_600_100_000):
            link.saw_mtime(mtime)
        assert link.server_time is None
        assert link.past == 1_600_500_000 - 86_400
        link.saw_mtime(4_000_000_000)  # by whichever clock, it is not beyond ours by a day
        assert link.past is not None
        assert link.past <= time.time() - 86_400
        link.saw_clock((1_700_000_000, asyncio.get_running_loop().time()))
        assert link.past == 1_700_000_000

    run_virtual(main())
