"""Questions to a person, and the deadline of a connection attempt, which stands still during a question.

`_one_at_a_time` is held while the person answers, so that connections made at the same time ask once between them. Its
holder takes no other lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vfs.base import errors
from vfs.remote.ssh.transport import Prompter


class Deadline:
    """`seconds` from now, without the time in which a person is asked. Used by one thread."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, at least 0.0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left == 0.0

    def need(self, what: str) -> float:
        """Seconds left. Raises `errors.NoAnswer` when there are none; `what` names who does not answer."""
        left = self.left
        if left == 0.0:
            raise errors.NoAnswer(f"no answer from {what} in time")
        return left

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The time in the block does not count."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - began


class Prompts:
    """Questions to `person`, None if nobody is there. Passphrases are kept in memory for later connections."""

    def __init__(self, person: Prompter | None) -> None:
        self.person = person
        self._one_at_a_time = threading.Lock()
        self._passphrases: dict[str, str] = {}

    @contextmanager
    def one_at_a_time(self, deadline: Deadline) -> Iterator[None]:
        """For a question: those of other threads are over, and its time does not count."""
        with deadline.standing_still(), self._one_at_a_time:
            yield

    def passphrase(self, deadline: Deadline, key_file: str, wrong: str | None = None) -> str | None:
        """The passphrase of a key file: the one entered before, unless it is `wrong`, else the answer of the person.

        None without a person or an answer.
        """
        with self.one_at_a_time(deadline):
            known = self._passphrases.get(key_file)
            if known is not None and known != wrong:
                return known
            entered = None if self.person is None else self.person.passphrase(key_file)
            if entered is not None:
                self._passphrases[key_file] = entered
            return entered
