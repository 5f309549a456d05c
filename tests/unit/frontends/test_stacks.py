"""The stacks of a process: opened once for all threads, tried again after a failure, anew in a forked child."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vfs.base.errors import Unreachable
from vfs.base.settings import Settings
from vfs.frontends.fsspec import stacks

OPTIONS = {"ssh": "ssh user@127.0.0.1", "remote_root": "/r"}


class Opened:
    """Stands for `open_stack`: counts, and fails as often as `failures` says."""

    def __init__(self) -> None:
        self.opened = self.closed = self.failures = 0

    @asynccontextmanager
    async def __call__(self, settings: Settings, *, offline: bool) -> AsyncIterator[Any]:
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise Unreachable("no route")
        self.opened += 1
        yield SimpleNamespace(settings=settings, remote=SimpleNamespace(link=SimpleNamespace(online=True)))
        self.closed += 1


@pytest.fixture
def opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    opened = Opened()
    monkeypatch.setattr(stacks, "open_stack", opened)
    stacks.close()
    yield opened
    stacks.close()


async def root(stack: Any) -> str:
    return str(stack.settings.remote_root)


def run(work: Any = root, **options: str) -> Any:
    return stacks.of_this_process().run({**OPTIONS, **options}, work)


def test_all_threads_share_one_stack_for_the_same_options(opened: Opened) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: run(), range(40))) == {"/r"}
    assert opened.opened == 1
    assert run(remote_root="/other") == "/other"
    assert opened.opened == 2
    stacks.close()
    assert opened.closed == 2


def test_a_stack_that_could_not_be_opened_is_tried_again_by_the_next_call(opened: Opened) -> None:
    opened.failures = 1
    with pytest.raises(Unreachable):
        run()
    assert run() == "/r"


def test_ctrl_c_ends_what_is_waited_for(opened: Opened) -> None:
    cancelled = threading.Event()

    async def hang(stack: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        run(hang)
    assert cancelled.wait(5)
    assert run() == "/r"


def test_nothing_is_run_on_stacks_that_are_closed(opened: Opened) -> None:
    kept = stacks.of_this_process()
    stacks.close()
    with pytest.raises(OSError, match="shutdown"):
        kept.run(OPTIONS, root)
    kept.soon(lambda: pytest.fail("called"))
    assert run() == "/r"


def test_closing_gives_the_thread_and_the_descriptors_of_the_loop_back(opened: Opened) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/dev/fd"))

    before = held()
    for _ in range(3):
        run()
        stacks.close()
    assert held() == before
    assert opened.closed == 3


def test_who_waits_when_the_stacks_are_closed_is_told(opened: Opened) -> None:
    waits = threading.Event()

    async def hang(stack: Any) -> None:
        waits.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, hang)
        assert waits.wait(5)
        stacks.close()
        with pytest.raises(OSError, match="shutdown"):
            waiting.result(5)


def test_nobody_waits_for_ever_who_asks_while_the_stacks_are_closed(opened: Opened) -> None:
    def ask(mine: stacks.Stacks) -> None:
        try:
            while True:
                assert mine.run(OPTIONS, root) == "/r"
        except OSError:
            return

    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, stacks.of_this_process()) for _ in range(4)]
            stacks.close()
            for one in asking:
                one.result(5)


def test_a_forked_child_opens_its_own_and_leaves_its_parents_alone(opened: Opened) -> None:
    run()
    before = stacks.of_this_process()
    child = os.fork()
    if child == 0:
        mine = stacks.of_this_process()
        fine = mine is not before and run() == "/r" and opened.opened == 2
        before.soon(lambda: os._exit(3))  # does nothing here
        stacks.close()
        os._exit(0 if fine and opened.closed == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stacks.of_this_process() is before
    assert (run(), opened.opened, opened.closed) == ("/r", 1, 0)
