"""Words, numbers and questions for people. Messages go to stderr; rich is imported where it draws.

All that a command says leaves through here, `logs.py` or a drawing of its own, and each makes it `printable`: a name
from a server neither drives the terminal nor makes a second line.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import sys
import termios
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vfs.base.errors import ArtisyncError
from vfs.base.printable import ERRORS
from vfs.base.printable import printable as printable
from vfs.base.units import ago as ago
from vfs.base.units import count as count
from vfs.base.units import duration as duration
from vfs.base.units import rate as rate
from vfs.base.units import size as size

if TYPE_CHECKING:
    from rich.console import Console


def any_encoding() -> None:
    """Have both standard streams take every character, whatever their encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def stdout() -> Console:
    """A rich console for results; plain text when stdout is not a terminal or NO_COLOR is set."""
    from rich.console import Console

    # piped, nothing is cut or wrapped to a width that nobody has
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; a column whose name begins with ">" is set to the right. Piped: fields between tabs, no head."""
    if not sys.stdout.isatty():
        for row in rows:
            print(*map(printable, row), sep="\t")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(
            name.removeprefix(">"), justify="right" if name[0] == ">" else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*(Text(printable(field)) for field in row))
    stdout().print(drawn)


def print_json(data: Any) -> None:
    """A result for programs, on stdout."""
    print(json.dumps(data, indent=2))


def say(*lines: str) -> None:
    """A result for people, on stdout. What breaks a line within one of `lines` is shown as an escape."""
    print(*map(printable, lines), sep="\n")


def tell(*lines: str) -> None:
    """A message for people, on stderr; lines as of `say`."""
    print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)


def tell_error(error: ArtisyncError) -> None:
    """What failed, and below it the cause and the next step."""
    text = str(error)
    if not text:
        tell(f"artisync: {error.hint}")
        return
    first, *more = text.split("\n") if error.lines else [text]
    tell(f"artisync: {first}", *more)
    if error.hint:
        tell(error.hint)


def tell_failures(failed: Iterable[Sequence[str]]) -> None:
    """A line for each file that could not be had: its name and the reason."""
    for name, reason in failed:
        tell(f"artisync: {name}: {reason}")


# --- questions ----------------------------------------------------------------------------------------------------


class TerminalPrompter:
    """Asks on the terminal (implements `remote.transport.Prompter`). Blocking; any thread, one question at a time."""

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        """Whether the person takes this host key; `old_fingerprint` is the one it would replace."""
        if old_fingerprint is None:
            tell(
                f"The server {host} is not known yet. Its {kind} key has the fingerprint", f"  {fingerprint}"
            )
            return confirm("Is that the server you mean, and connect to it?")
        tell(
            f"The host key of {host} has CHANGED.",
            f"  before: {old_fingerprint}",
            f"  now:    {fingerprint} ({kind})",
            "A new container behind the same address has a new key; so has somebody who listens in.",
        )
        return confirm("Replace the old key by the new one?")

    def passphrase(self, key_file: str) -> str | None:
        """The passphrase, or None if there was no answer."""
        try:
            return getpass.getpass(f"Passphrase for the key {printable(key_file)}: ") or None
        except EOFError:
            return None


def confirm(question: str) -> bool:
    """Whether the person says yes; an end of the input is a no."""
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
    """Somebody to ask, or None when stdin is not a terminal."""
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
