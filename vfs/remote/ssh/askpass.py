"""Answers the system's `ssh` when it asks for a passphrase: an SSH_ASKPASS program that asks us back.

ssh gives the program the question and its environment only. So the program is a script in a directory of ours (0700)
beside two named pipes, one for questions and one for answers; no file ever holds an answer. Source: ssh(1), SSH_ASKPASS and SSH_ASKPASS_REQUIRE (OpenSSH 8.4 and later).

Threads: one that waits for questions; it ends with `close`, which may be called from any thread.
"""

from __future__ import annotations

import logging
import os
import re
import select
import shutil
import tempfile
import threading
from collections.abc import Callable
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
    """The helper of one `ssh`. `answer(key, again)` is called on the helper's thread, and returns None for no answer.

    `again`: the last answer for this key did not fit.
    """

    def __init__(self, answer: Callable[[str, bool], str | None]) -> None:
        """Raises OSError, RuntimeError without threads."""
        self._answer = answer
        self._asked: set[str] = set()
        self._directory = Path(tempfile.mkdtemp(prefix="artisync-ask-"))
        try:
            self._script = self._directory / "ask"
            self._script.write_text(_SCRIPT)
            self._script.chmod(0o700)
            pipes = [Path(f"{self._script}.{name}") for name in ("question", "answer")]
            for pipe in pipes:
                os.mkfifo(pipe, 0o600)
            # A FIFO that is open for both directions neither waits for the other side nor ends with it: fifo(7).
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            self._question, self._reply = (os.open(p, flags) for p in pipes)
            self._end, self._ending = os.pipe()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        try:
            threading.Thread(target=self._serve, name="questions of ssh", daemon=True).start()
        except RuntimeError:
            self._release()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """To be added to the environment of ssh."""
        return {"SSH_ASKPASS": str(self._script), "SSH_ASKPASS_REQUIRE": "force"}

    def close(self) -> None:
        """End the thread. To be called once."""
        os.write(self._ending, b"\0")

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._question, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        pending = b""
        try:
            while not any(fd == self._end for fd, _ in poll.poll()):
                pending = (pending + os.read(self._question, _LONGEST))[-_LONGEST:]
                while b"\0" in pending:
                    question, _, pending = pending.partition(b"\0")
                    os.write(self._reply, self._reply_to(question.decode("utf-8", "replace")))
        finally:
            self._release()

    def _release(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        for fd in (self._question, self._reply, self._end, self._ending):
            os.close(fd)

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
