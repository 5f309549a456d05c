"""Which pending signals end a call that waits for an answer."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from vfs.frontends.fuse import signals


def status(
    *, own: set[int] = frozenset(), group: set[int] = frozenset(), **masks: set[signal.Signals]
) -> bytes:
    """`/proc/PID/status` with these signals pending (for the thread, for the process), blocked, ignored, caught."""

    def line(name: str, numbers: set[int]) -> str:
        return f"{name}:\t{sum(1 << number - 1 for number in numbers):016x}\n"

    found = [line("SigPnd", own), line("ShdPnd", group)]
    found += [line(name, masks.get(name, set())) for name in ("SigBlk", "SigIgn", "SigCgt")]
    return ("Name:\tcat\nPid:\t7\nSigQ:\t0/100\n" + "".join(found) + "CapInh:\t0\n").encode()


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (status(), False),
        (status(own={signal.SIGKILL}), True),
        (status(own={signal.SIGKILL, signal.SIGCHLD}, SigCgt={signal.SIGCHLD}), True),
        (status(group={signal.SIGQUIT}), True),
        (status(group={signal.SIGUSR1}), True),
        (status(group={signal.SIGRTMAX}), True),
        (status(group={signal.SIGINT}, SigCgt={signal.SIGINT}), True),
        (status(group={signal.SIGTERM}, SigCgt={signal.SIGTERM}), True),
        (status(group={signal.SIGINT}, SigIgn={signal.SIGINT}), False),
        (status(group={signal.SIGTERM}, SigBlk={signal.SIGTERM}), False),
        (status(group={signal.SIGALRM}, SigCgt={signal.SIGALRM}), False),
        (status(group={signal.SIGCHLD}, SigCgt={signal.SIGCHLD}), False),
        (status(group={signal.SIGCHLD}), False),
        (status(own={signal.SIGTSTP}), False),
        (status(own={signal.SIGSTOP}), False),
        (status(group={signal.SIGCONT}, SigCgt={signal.SIGCONT}), False),
        (status(own={signal.SIGWINCH}), False),
        (b"Name:\tcat\n", True),
    ],
)
def test_a_signal_ends_a_call_if_it_ends_the_program_or_asks_it_to(text: bytes, ends: bool) -> None:
    assert signals.ending(text) is ends


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_signals_of_a_thread_are_seen() -> None:
    seen = []

    def look() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        seen.append(signals.ends_a_call(threading.get_native_id()))
        signal.sigwait({signal.SIGTERM})

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False]
    assert not signals.ends_a_call(os.getpid())


def test_where_nobody_can_tell_every_signal_ends_a_call() -> None:
    assert signals.ends_a_call(0)


def test_in_another_pid_namespace_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1 << 30)
    assert signals.ends_a_call(os.getppid())
