"""What holds the event loop is counted, by processor time and by name."""

from __future__ import annotations

import asyncio
import time

from tests.lab.loop_watch import EVERY, LONG, Held, WatchedLoop, watch


def burn(seconds: float) -> None:
    """Use processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def watched(*seconds: float) -> Held:
    """What is seen of a task that holds the loop once for each of `seconds`."""

    async def main() -> None:
        for each in seconds:
            burn(each)
            await asyncio.sleep(0)

    with watch() as held:
        asyncio.run(main())
    return held


def test_a_callback_that_holds_the_loop_is_counted_and_named() -> None:
    held = watched(LONG * 1.5, 0.0, LONG * 2)
    assert len(held) == 2
    assert max(held)[0] >= LONG * 2 - EVERY
    assert all("main" in name and __file__ in name for _, name in held)


def test_many_short_ones_are_not() -> None:
    assert watched(*[LONG / 5] * 10) == []


def test_who_sleeps_uses_no_processor_time() -> None:
    async def main() -> None:
        time.sleep(LONG * 2)

    with watch() as held:
        asyncio.run(main())
    assert held == []


def test_the_watch_of_the_tests_counts_what_is_no_task_of_theirs(watched_loop: WatchedLoop) -> None:
    asyncio.run(_once(lambda: burn(LONG * 3)))
    assert watched_loop.long == []
    watched_loop.strict = True
    assert len(watched_loop.long) == 1
    watched_loop.held.clear()


async def _once(work: object) -> None:
    work()  # type: ignore[operator]
