"""What is known of the link: the server's clock, the rate."""

from __future__ import annotations

import asyncio

from tests.lab.virtual_time import run_virtual
from vfs.remote.link import Link


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
