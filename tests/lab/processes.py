"""What /proc says of processes: who is below whom, and the processor time and memory that they took; and how all end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, AnyStr

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, as they are now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Program(subprocess.Popen[AnyStr]):
    """A child that does not outlive its block."""

    def __exit__(self, *error: Any) -> None:
        self.kill()
        super().__exit__(*error)


@contextlib.contextmanager
def stopped(send: Callable[[signal.Signals], object]) -> Iterator[None]:
    """In the block, what `send` sends a signal to is stopped."""
    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def adopt() -> None:
    """`preexec_fn` of a process that all below it stay below, also those whose parents end (prctl(2))."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a child that was started with `adopt`, and all below it; nothing of it runs afterwards."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # so that it starts no more
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    while left := [pid for pid in descendants(process.pid) if running(pid)]:
        kill(left)
    process.kill()
    process.wait()


def running(pid: int) -> bool:
    """Whether there is such a process, which has not ended."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that the processes took so far, user and system; those that have ended count nothing."""
    total = 0
    for pid in pids:
        try:
            words = _stat(pid)
        except OSError:
            continue
        total += int(words[11]) + int(words[12])
    return total / _TICKS


def peak_resident(pids: Iterable[int]) -> int:
    """Bytes: the sum of each process's largest resident set so far."""
    total = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10
    return total


def _stat(pid: int) -> list[str]:
    """The words of proc(5)'s stat from the state on; the name in parentheses before it may hold anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
