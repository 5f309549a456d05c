"""Work for commands: a live mount does it in its own process if there is one, else the command on a stack of its own.

Each is called with the stack and arguments in plain types, and answers in plain types (bytes only as "data").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from vfs.commands import cat, ls, prefetch, pull_run, wait
from vfs.commands.reports import Report

VERBS: Mapping[str, Callable[..., AsyncIterator[Report]]] = {
    "ls": ls.listing,
    "cat": cat.cat,
    "estimate": prefetch.estimate,
    "prefetch": prefetch.prefetch,
    "unpin": prefetch.unpin,
    "wait": wait.wait,
    "pull": pull_run.reports,
}
"""By their names on the control socket."""
