"""Work that may never end, on a thread of its own."""

from __future__ import annotations

import threading

import pytest

from vfs.base.timeouts import within


def test_the_result_comes_back() -> None:
    assert within(5, lambda: 7, "seven") == 7


def test_what_it_raises_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        within(5, fail, "failing")


def test_late_work_is_left_behind_on_a_thread_that_holds_nobody_up() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, never.wait, "late")
    [thread] = [thread for thread in threading.enumerate() if thread.name == "late"]
    assert thread.daemon
    never.set()
    thread.join(5)
    assert not thread.is_alive()
