"""Processes that are forked while threads of ours use SQLite."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vfs.cache import fork_gate
from vfs.cache.records import Records

HELD = 0.3
"""Seconds that a thread stays inside, while a fork would begin at once if it did not wait."""


def code_of_child(work: object) -> int:
    """The exit code of a forked child that does `work`; 1 when it fails."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_forked_during_a_transaction_can_use_the_database(tmp_path: Path) -> None:
    records = Records(tmp_path)
    begun = threading.Event()

    def write() -> None:
        with records.transaction():
            records.set("key", b"parent")
            begun.set()
            threading.Event().wait(HELD)

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()

    def write_too() -> None:
        mine = Records(tmp_path)
        with mine.transaction():
            mine.set("key", b"child")

    assert code_of_child(write_too) == 0
    thread.join()
    assert records.get("key") == b"child"
    records.close()


def test_who_is_inside_may_enter_again_while_a_fork_waits() -> None:
    entered, order = threading.Event(), []

    def enter() -> None:
        with fork_gate.held_off():
            entered.set()
            threading.Event().wait(HELD)
            with fork_gate.held_off():
                order.append("inside")

    thread = threading.Thread(target=enter)
    thread.start()
    entered.wait()
    assert code_of_child(lambda: order.index("inside")) == 0
    thread.join()
    with fork_gate.held_off():
        pass
