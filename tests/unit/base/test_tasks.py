"""Background tasks of one owner: they end with it, none starts after it, and no failure goes unheard."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.lab.virtual_time import run_virtual
from vfs.base.errors import Unreachable
from vfs.base.tasks import SingleFlight, Tasks


def test_nothing_runs_or_starts_after_the_end() -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await asyncio.Event().wait()

    async def main() -> None:
        tasks = Tasks()
        task = tasks.spawn(work("first"))
        await asyncio.sleep(1)
        assert len(tasks) == 1
        await tasks.aclose()
        await tasks.aclose()
        assert task.cancelled()
        late = tasks.spawn(work("late"))
        with pytest.raises(asyncio.CancelledError):
            await late
        assert len(tasks) == 0

    run_virtual(main())
    assert begun == ["first"]


@pytest.mark.parametrize(
    ("error", "logged"), [(ZeroDivisionError(), 1), (Unreachable("no"), 0), (TimeoutError(), 0)]
)
def test_an_unexpected_failure_is_logged_though_nobody_awaits_it(
    caplog: pytest.LogCaptureFixture, error: Exception, logged: int
) -> None:
    async def work() -> None:
        raise error

    async def main() -> None:
        tasks = Tasks()
        tasks.spawn(work())
        await asyncio.sleep(1)
        await tasks.aclose()

    with caplog.at_level(logging.ERROR, "vfs"):
        run_virtual(main())
    assert len(caplog.records) == logged


def test_one_task_of_a_key_is_in_flight_at_a_time() -> None:
    begun: list[str] = []

    async def work(key: str) -> None:
        begun.append(key)
        await asyncio.sleep(1)

    async def main() -> None:
        flights: SingleFlight[str] = SingleFlight()
        first = flights.start("a", lambda: work("a"))
        assert flights.start("a", lambda: work("a")) is first
        flights.start("b", lambda: work("b"))
        await first
        await asyncio.sleep(0)
        assert "a" not in flights
        await flights.start("a", lambda: work("a"))
        await flights.aclose()

    run_virtual(main())
    assert begun == ["a", "b", "a"]
