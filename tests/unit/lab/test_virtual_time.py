"""The loop with virtual time: timers take no real time, threads take no virtual time."""

import asyncio
import threading
import time

import pytest

from tests.lab import virtual_time
from tests.lab.virtual_time import Stuck, VirtualLoop, run_virtual


@pytest.mark.timed
def test_an_hour_of_sleeping_takes_no_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - before

    began = time.monotonic()
    assert run_virtual(main()) == pytest.approx(3600)
    assert time.monotonic() - began < 10


def test_timers_run_in_the_order_of_their_times() -> None:
    async def main() -> list[tuple[int, float]]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        seen: list[tuple[int, float]] = []
        for delay in (30, 10, 20):
            loop.call_later(delay, lambda delay=delay: seen.append((delay, loop.time() - begin)))
        await asyncio.sleep(25)
        assert [delay for delay, _ in seen] == [10, 20]
        await asyncio.sleep(25)
        return seen

    for delay, at in run_virtual(main()):
        assert at == pytest.approx(delay)


def test_a_sleep_is_never_a_hair_too_short() -> None:
    async def main() -> list[float]:
        clock, slept = asyncio.get_running_loop().time, []
        for number in range(100):
            await asyncio.sleep(0.1 * number + 1 / 3)
            began = clock()
            asyncio.get_running_loop().call_later(2.0 - 5e-10, int)  # what is due so soon after wakes, too
            await asyncio.sleep(2.0)
            slept.append(clock() - began)
        return slept

    assert min(run_virtual(main())) >= 2.0


def test_a_timeout_expires_at_its_virtual_moment() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        return loop.time() - begin

    assert run_virtual(main()) == pytest.approx(30)


def test_work_in_an_executor_takes_no_virtual_time() -> None:
    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        ticking = loop.create_task(asyncio.sleep(5))
        release = threading.Event()
        loop.call_soon(release.set)
        answer = await asyncio.to_thread(
            lambda: "done" if release.wait(10) and not time.sleep(0.05) else "late"
        )
        elapsed = loop.time() - begin
        await ticking
        return answer, elapsed

    assert run_virtual(main()) == ("done", 0)


def test_a_thread_under_a_hold_is_waited_for() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        begin = loop.time()
        came = asyncio.Event()
        asyncio.get_running_loop().call_later(60, lambda: None)
        with loop.hold():
            threading.Timer(0.05, loop.call_soon_threadsafe, (came.set,)).start()
            await came.wait()
        return loop.time() - begin

    assert run_virtual(main()) == 0


def test_a_thread_that_is_stuck_does_not_hide_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "PATIENCE", 0.05)
    release = threading.Event()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        work = loop.run_in_executor(None, release.wait, 10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(work), 30)
        elapsed = loop.time() - begin
        release.set()
        assert await work
        return elapsed

    assert run_virtual(main()) == pytest.approx(30)


def test_waiting_for_what_nobody_will_do_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "PATIENCE", 0.05)
    with pytest.raises(Stuck, match="waits_for_ever"):
        run_virtual(waits_for_ever())


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


def test_an_exception_comes_out_and_tasks_left_behind_are_cancelled() -> None:
    cancelled = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        task = asyncio.create_task(left_behind())
        await asyncio.sleep(1)
        raise LookupError(task.get_name())

    with pytest.raises(LookupError):
        run_virtual(main())
    assert cancelled == [True]
