"""Questions to a person, and the deadline of a connection attempt, which stands still during a question.

`_one_at_a_time` is held while the person answers, so that connections made at the same time ask once between them. Its
holder takes no other lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from vfs.base import errors
from vfs.remote.ssh.transport import Prompter

_T = TypeVar("_T")


class Deadline:
    """`seconds` from now, without the time in which a person is asked. One thread asks questions, any thread may read."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._asking_since: float | None = None

    @property
    def left(self) -> float:
        """Seconds left, at least 0.0. The clock stands still while a question is open."""
        asking_since = self._asking_since
        return max(0.0, self._end - (time.monotonic() if asking_since is None else asking_since))

    @property
    def passed(self) -> bool:
        return self.left == 0.0

    def need(self, what: str) -> float:
        """Seconds left. Raises `errors.NoAnswer` when there are none; `what` names who does not answer."""
        left = self.left
        if left == 0.0:
            raise errors.NoAnswer(f"no answer from {what} in time")
        return left

    def without(self, question: Callable[[], _T]) -> _T:
        """What `question` returns; its time does not count."""
        began = self._asking_since = time.monotonic()
        try:
            return question()
        finally:
            self._end += time.monotonic() - began
            self._asking_since = None


class Prompts:
    """Questions to a person, from several threads. Passphrases are kept in memory for later connections."""

    def __init__(self, prompter: Prompter | None) -> None:
        self._prompter = prompter
        self._one_at_a_time = threading.Lock()
        self._passphrases: dict[str, str] = {}

    @property
    def somebody(self) -> bool:
        """Whether there is a person to ask."""
        return self._prompter is not None

    def about_host_key(self, deadline: Deadline, verify: Callable[[Prompter | None], None]) -> None:
        """Call `verify` with the person to ask, or None. Questions are asked one at a time; their time does not count."""
        if self._prompter is None:
            verify(None)
            return

        def alone() -> None:
            with self._one_at_a_time:
                verify(self._prompter)

        deadline.without(alone)

    def passphrase(self, deadline: Deadline, key_file: str, wrong: str | None = None) -> str | None:
        """The passphrase of a key file: the one entered before, unless it is `wrong`, else the answer of the person.

        None without a person or an answer.
        """

        def alone() -> str | None:
            with self._one_at_a_time:
                known = self._passphrases.get(key_file)
                if known is not None and known != wrong:
                    return known
                entered = None if self._prompter is None else self._prompter.passphrase(key_file)
                if entered is not None:
                    self._passphrases[key_file] = entered
                return entered

        return deadline.without(alone)
