"""How a mount goes into the background, and how one waits for a process to end.

A daemon cannot be forked off a process with threads, so the parent starts a fresh child and waits on a pipe. The
child keeps the terminal (for questions about host keys and passphrases) until the mount answers; then it lets go of it
and writes `ready`. An end of the pipe without that word means that the child has failed and has said why itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from vfs.base import reexec
from vfs.cli import console

READY_FD = "ARTISYNC_READY_FD"
"""Names the child's end of the pipe."""

_READY = b"ready\n"
_END_SECONDS = 3.0
"""How long an unready child may take to end when asked."""


# --- the parent ---------------------------------------------------------------------------------------------------


def start(arguments: Sequence[str]) -> int:
    """Run `artisync ARGUMENTS` as a child until it says that it is ready: 0, or the exit code with which it failed.

    KeyboardInterrupt (Ctrl-C, or SIGTERM or SIGHUP to us) ends the child and is raised on. Main thread only.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, signals_interrupt():
        try:
            child = subprocess.Popen(
                reexec.words(*arguments),
                pass_fds=[writing],
                env={**reexec.environment(), READY_FD: str(writing)},
            )
        finally:
            os.close(writing)
        try:
            if pipe.read() == _READY:
                return 0
            code = child.wait()
        except KeyboardInterrupt:
            reexec.end(child, _END_SECONDS)
            raise
    if code < 0:
        console.tell(f"artisync: the mount's process was ended by {signal.Signals(-code).name}")
    return code if code > 0 else 1


def popen(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `artisync ARGUMENTS` in a session of its own: a Ctrl-C on the terminal does not reach it."""
    return subprocess.Popen(
        reexec.words(*arguments),
        stdin=subprocess.DEVNULL,
        env=reexec.environment(),
        start_new_session=True,
    )


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does. Main thread only."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the child ----------------------------------------------------------------------------------------------------


def take_pipe() -> int | None:
    """The descriptor on which a parent waits, if there is one; programs that we start do not inherit it."""
    try:
        pipe = int(os.environ.pop(READY_FD, ""))
        os.set_inheritable(pipe, False)
    except (ValueError, OSError):
        return None
    return pipe


def detach(pipe: int, log: int) -> None:
    """Let go of the terminal, the working directory and the standard streams (output goes to the descriptor `log`),
    then tell the parent. When the parent has gone, end this process as SIGTERM does."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(PermissionError):  # already a leader of its own
        os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()  # a crash in C says where; stderr is the log
    for spare in {null, log} - {0, 1, 2}:
        os.close(spare)
    try:
        os.write(pipe, _READY)
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.close(pipe)


# --- waiting ------------------------------------------------------------------------------------------------------


class Process:
    """A process that is not our child, held by a pidfd where the system has them, so that its number is not reused."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # before Linux 5.3; or it has ended
            self._fd = os.pidfd_open(pid)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def ended(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end. Returns whether it has ended."""
        if self._fd is not None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        end = time.monotonic() + seconds
        while self._runs():
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessLookupError):
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self._pid, number)

    def _runs(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True
