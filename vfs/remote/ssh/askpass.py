"""Answers the system's `ssh` when it asks for a passphrase: an SSH_ASKPASS program that asks us back.

ssh gives the program the question and its environment only. So the program is a script in a directory of ours (0700)
beside two named pipes, one for questions and one for answers; no file ever holds an answer. Source: ssh(1), SSH_ASKPASS and
SSH_ASKPASS_REQUIRE (OpenSSH 8.4 and later).
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

log = logging.getLogger(__name__)

_SCRIPT = """#!/bin/sh
# Hands the question of ssh to artisync, and its answer back. "+" stands before an answer, "-" for none.
printf '%s\\0' "$1" >"$0.question"
IFS= read -r answer <"$0.answer"
case $answer in
  +*) printf '%s\\n' "${answer#+}" ;;
  *) exit 1 ;;
esac
"""

_QUESTION = re.compile(r"(?:passphrase for(?: key)?|PIN for(?: \S+ key)?) '?(.+?)'?:? *$", re.IGNORECASE)
_LONGEST = 4096


class Askpass:
    """The helper of one `ssh`. `answer(key, again)` is called by `reply`, and returns None for no answer.

    `again`: the last answer for this key did not fit.
    """

    def __init__(self, answer: Callable[[str, bool], str | None]) -> None:
        """Raises OSError."""
        self._answer = answer
        self._asked: set[str] = set()
        self._pending = b""
        with ExitStack() as made:
            directory = made.enter_context(tempfile.TemporaryDirectory(prefix="artisync-ask-"))
            script = Path(directory) / "ask"
            script.write_text(_SCRIPT)
            script.chmod(0o700)
            self.question, self._reply = (
                self._pipe(f"{script}.{end}", made) for end in ("question", "answer")
            )
            self.environment = {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"}
            """To be added to that of ssh."""
            self.close = made.pop_all().close

    @staticmethod
    def _pipe(name: str, made: ExitStack) -> int:
        os.mkfifo(name, 0o600)
        # A FIFO that is open for both directions neither waits for the other side nor ends with it: fifo(7).
        fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        made.callback(os.close, fd)
        return fd

    def reply(self) -> None:
        """Answer what ssh asks, once the descriptor `question` is readable."""
        self._pending = (self._pending + os.read(self.question, _LONGEST))[-_LONGEST:]
        while b"\0" in self._pending:
            question, _, self._pending = self._pending.partition(b"\0")
            os.write(self._reply, self._reply_to(question.decode("utf-8", "replace")))

    def _reply_to(self, question: str) -> bytes:
        found = _QUESTION.search(question)
        answer = None
        if found is None:
            log.info("ssh asks %r, which is not answered", question)
        else:
            key = found.group(1)
            answer = self._answer(key, key in self._asked)
            self._asked.add(key)
        return b"-\n" if answer is None or "\n" in answer else f"+{answer}\n".encode()
