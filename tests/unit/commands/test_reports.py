"""What long work tells while it goes on, and when it is stopped."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.virtual_time import run_virtual
from vfs.base.progress import Progress
from vfs.commands.reports import Report, Tell, reports


async def work(tell: Tell) -> None:
    tell({"begun": True})
    try:
        await asyncio.sleep(1)
        tell({"half": True})
        await asyncio.sleep(1)
    finally:
        tell({"outcome": 7})


def test_what_is_told_comes_in_order_and_progress_before_and_between() -> None:
    async def story() -> None:
        progress = Progress(total=9)
        got = [report async for report in reports(work, progress)]
        told = [report for report in got if "progress" not in report]
        assert told == [{"begun": True}, {"half": True}, {"outcome": 7}]
        assert got[0]["progress"]["total"] == 9
        assert 10 <= len(got) - len(told) <= 15

    run_virtual(story())


def test_work_that_is_cancelled_still_tells_its_outcome() -> None:
    async def story() -> None:
        got: list[Report] = []

        async def take() -> None:
            async for report in reports(work, Progress()):
                if "progress" not in report:
                    got.append(report)

        taking = asyncio.ensure_future(take())
        await asyncio.sleep(0.5)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert got == [{"begun": True}, {"outcome": 7}]

    run_virtual(story())


def test_a_failure_comes_after_what_was_told() -> None:
    async def failing(tell: Tell) -> None:
        tell({"begun": True})
        raise OSError("no")

    async def story() -> None:
        got: list[Report] = []
        with pytest.raises(OSError, match="no"):
            async for report in reports(failing, Progress()):
                got.append(report)
        assert {"begun": True} in got

    run_virtual(story())
