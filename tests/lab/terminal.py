"""A command on a pseudo-terminal of 80 columns and 24 lines, and a person who reads what it says and types."""

from __future__ import annotations

import os
import pty
import re
import signal
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from tests.lab.waiting import readable

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE = 30.0
"""Seconds for the command to say what is waited for, or to end."""


class Terminal:
    """`with Terminal(words, environment) as terminal:` runs the words; they are killed if they outlive the block.

    In place of words, a function that returns an exit code runs in a fork of this process.
    """

    def __init__(
        self, words: Sequence[str] | Callable[[], int], environment: Mapping[str, str] = os.environ
    ) -> None:
        self.said = ""
        """All that has come to the screen, what was typed and echoed included."""
        self._seen = 0
        self._open = True
        self._code: int | None = None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            termios.tcsetwinsize(0, (24, 80))
            if not callable(words):
                os.execvpe(words[0], words, environment)
            code = 70
            try:
                code = words()
            finally:
                os._exit(code)

    def sees(self, text: str) -> None:
        """Wait until that is said, after what was seen before."""
        end = time.monotonic() + PATIENCE
        while (found := self.said.find(text, self._seen)) < 0:
            assert self._read(end), f"{text!r} is not in {self.said[self._seen :]!r}"
        self._seen = found + len(text)

    def matches(self, pattern: str) -> None:
        """As `sees`, for a regular expression and what is said without its escape sequences."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.plain()):
            assert self._read(end), f"{pattern!r} does not match {self.plain()!r}"

    def plain(self) -> str:
        """All that has come to the screen, without colours and movements of the cursor."""
        return ESCAPES.sub("", self.said)

    def presses(self, key: str) -> None:
        """Press a key, as "\x03" for Ctrl-C."""
        os.write(self._fd, key.encode())

    def types(self, line: str) -> None:
        """Type a line and the return key."""
        os.write(self._fd, f"{line}\n".encode())

    def send(self, number: int) -> None:
        """Send a signal to the command."""
        os.kill(self._pid, number)

    def ended(self) -> int:
        """Wait for the end of the command: its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        assert not self._open, f"it goes on after {self.said!r}"
        return self._wait()

    def _read(self, end: float) -> bool:
        """Whether anything more has come until then; nothing comes after the end of the command."""
        if not readable(self._fd, end - time.monotonic()):
            return False
        try:
            more = os.read(self._fd, 1 << 16)
        except OSError:  # EIO: the other end is closed
            more = b""
        self.said += more.decode(errors="replace")
        self._open = bool(more)
        return self._open

    def _wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        os.close(self._fd)
