"""Words, numbers and questions for people. Messages go to stderr; rich is imported where it draws.

All that a command says leaves through here, `logs.py` or a drawing of its own, and each makes it `printable`: a name
from a server neither drives the terminal nor makes a second line.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import re
import sys
import termios
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vfs.base.columns import GAP, cells, first_width, lay_out
from vfs.base.errors import ArtisyncError, OutputUnusable
from vfs.base.printable import ERRORS
from vfs.base.printable import printable as printable
from vfs.base.units import ago as ago
from vfs.base.units import count as count
from vfs.base.units import duration as duration
from vfs.base.units import rate as rate
from vfs.base.units import size as size

if TYPE_CHECKING:
    from rich.console import Console

MOST_FILES = 20
"""Files that are told one by one."""


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """In the block stdout is written to; a failure is OutputUnusable, or BrokenPipeError when its reader has exited."""
    try:
        yield
    except OSError as error:
        # the interpreter's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputUnusable(f"cannot write to the standard output: {error.strerror}") from error


class _Output(io.FileIO):
    """stdout, such that its failures are known from others."""

    def write(self, data: Any) -> int:
        with writing_output():
            return super().write(data)


def open_streams() -> None:
    """Open the standard streams that are closed, and make both outputs accept every character, whatever their encoding.

    Else the next file would take the place of a closed one. What is written to a stdout that was closed fails.
    """
    real = sys.stdout is sys.__stdout__
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))
    if real:
        raw = _Output(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), sys.stdout.encoding, line_buffering=raw.isatty()
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def stdout() -> Console:
    """A rich console for results; plain text when stdout is not a terminal or NO_COLOR is set."""
    from rich.console import Console

    # a pipe has no width to cut or wrap at
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def draws(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be drawn over."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, first_to_go: Sequence[int] = ()) -> None:
    """A table on stdout; a column whose name begins with ">" is set to the right. Piped: fields between tabs, no head.

    Nothing is broken or cut: where the terminal is too narrow, the columns `first_to_go` are left out in that order, and
    what is longer than a line has lines of its own.
    """
    shown = [[printable(field) for field in row] for row in rows]
    if not sys.stdout.isatty():
        for row in shown:
            print(*row, sep="\t")
        return
    from rich.text import Text

    out = stdout()
    shown.insert(0, [name.removeprefix(">") for name in columns])
    widths = [max(GAP + cells(field) for field in column) for column in zip(*shown, strict=True)]
    left = list(range(1, len(columns)))
    stay = sum(widths[i] for i in left if i not in first_to_go)
    name = first_width([row[0] for row in shown], out.width - stay)
    for column in first_to_go:
        if name + sum(widths[i] for i in left) > out.width:
            left.remove(column)
    left = [0, *left]
    right = [i for i, column in enumerate(left) if columns[column].startswith(">")]
    head, *lines = lay_out([[row[i] for i in left] for row in shown], right=right, width=out.width)
    widest = max(cells(line) for row in (head, *lines) for line in row)
    out.print(Text("\n".join(head), "bold"), soft_wrap=True)
    for line in ("─" * min(widest, out.width), *(line for row in lines for line in row)):
        out.print(Text(line), soft_wrap=True)


def print_json(data: Any) -> None:
    """A result for programs, on stdout."""
    print(json.dumps(data, indent=2))


def say(*lines: str) -> None:
    """A result for people, on stdout. What breaks a line within one of `lines` is shown as an escape."""
    print(*map(printable, lines), sep="\n")


def tell(*lines: str) -> None:
    """A message for people, on stderr; as `say`, and wrapped at words to the terminal's width."""
    shown = map(printable, lines)
    width = _width() if sys.stderr.isatty() else None
    wrapped = shown if width is None else (part for line in shown for part in wrap(line, width))
    try:
        print(*wrapped, sep="\n", file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass  # on a full disk the command goes on without its messages


def tell_files(lines: Sequence[str]) -> None:
    """Messages, each about one file; of very many the first."""
    for line in lines[:MOST_FILES]:
        tell(line)
    if len(lines) > MOST_FILES:
        tell(f"artisync: … and {count(len(lines) - MOST_FILES, 'more file')}.")


def _width() -> int:
    """The width of the terminal on stderr, 80 if it is not known."""
    try:
        return int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (ValueError, OSError):
        return 80


def wrap(line: str, width: int) -> list[str]:
    """Lines of a width. Paths, fingerprints and commands between backticks are not broken, nor is an indented line: it is
    there to be copied."""
    import textwrap

    if line.startswith(" "):
        return [line]
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), line)
    parts = textwrap.wrap(whole, max(width, 20), break_long_words=False, break_on_hyphens=False)
    return [part.replace("\0", " ") for part in parts] or [""]


def tell_error(error: ArtisyncError) -> None:
    """Print what failed, and below it the cause and the next step."""
    text = str(error)
    if not text:
        tell(f"artisync: {error.hint}")
        return
    first, *more = text.split("\n") if error.lines else [text]
    tell(f"artisync: {first}", *more)
    if error.hint:
        tell(error.hint)


# --- questions ----------------------------------------------------------------------------------------------------


class TerminalPrompter:
    """Asks on the terminal (implements `remote.ssh.transport.Prompter`). Blocking; any thread, one question at a time."""

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        """Whether the user accepts this host key; `old_fingerprint` is the one it would replace."""
        if old_fingerprint is None:
            tell(f"The server {host} is new here. The fingerprint of its {kind} key is", f"  {fingerprint}")
            return confirm("Continue connecting?")
        tell(
            f"The host key of {host} has CHANGED.",
            f"  before: {old_fingerprint}",
            f"  now:    {fingerprint} ({kind})",
            "A new container at the same address has a new key; so has an attacker in between.",
        )
        return confirm("Replace the old key?")

    def passphrase(self, key_file: str) -> str | None:
        """The passphrase, or None if there was no answer."""
        try:
            return getpass.getpass(f"Passphrase for the key {printable(key_file)}: ") or None
        except EOFError:
            return None


def confirm(question: str) -> bool:
    """Whether the user answers yes; the end of the input counts as no."""
    while True:
        print(f"{printable(question)} [yes/no] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            tell("")
            return False
        if answer.strip().lower() in ("y", "yes"):
            return True
        if answer.strip().lower() in ("n", "no"):
            return False


def prompter() -> TerminalPrompter | None:
    """The prompter, or None when stdin is not a terminal."""
    return TerminalPrompter() if sys.stdin is not None and sys.stdin.isatty() else None


@contextlib.contextmanager
def terminal_kept() -> Iterator[None]:
    """Puts the terminal back as it was: a process that ends in a passphrase prompt leaves the echo off."""
    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (OSError, ValueError, AttributeError, termios.error):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            # only when it differs: a job in the background would be stopped for trying
            if termios.tcgetattr(fd) != before:
                termios.tcsetattr(fd, termios.TCSADRAIN, before)
