"""Where log messages go: to the terminal in one line each, or dated into the log file of a mount."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import click

from vfs.base import calls, paths
from vfs.base.printable import printable

_LOG_LIMIT = 1 << 20
"""Bytes above which a log file is set aside (as NAME.1) when a mount starts."""

_verbosity = 0


class _Terse(logging.Formatter):
    """For people: no date, no traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return f"artisync: {printable(record.getMessage())}"


class _Dated(logging.Formatter):
    """For log files: a line for each message, and tracebacks below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _trace(ei[1])


_DATED = _Dated("%(asctime)s %(levelname)s %(name)s [%(threadName)s]: %(message)s")


class _Stderr(logging.StreamHandler[Any]):
    """Writes each record to the present `sys.stderr`, which a progress line may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _set_up(ctx: click.Context, _param: click.Parameter, value: int) -> None:
    global _verbosity
    if ctx.resilient_parsing:
        return
    # `artisync -v mount` and `artisync mount -v` are the same
    _verbosity = max(value, _verbosity if ctx.parent is not None else 0)
    to_stderr(_Terse() if _verbosity == 0 else _DATED, logging.WARNING)


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    envvar="ARTISYNC_VERBOSE",
    callback=_set_up,
    expose_value=False,
    is_eager=True,
    help="More messages; -vv for all.",
)


def verbosity() -> int:
    """How many -v the command line has."""
    return _verbosity


def to_stderr(formatter: logging.Formatter, least: int) -> None:
    """Log to stderr only, from the level `least` on, or lower if -v asks for it."""
    _install(_Stderr(), formatter, least)


def _install(handler: logging.Handler, formatter: logging.Formatter, least: int) -> None:
    handler.setFormatter(formatter)
    handler.addFilter(calls.name_call)
    logging.getLogger().handlers[:] = [handler]
    level = min(least, (logging.WARNING, logging.INFO, logging.DEBUG)[min(_verbosity, 2)])
    logging.getLogger("vfs").setLevel(level)
    logging.getLogger(calls.__name__).setLevel(logging.DEBUG if _verbosity else logging.NOTSET)
    # paramiko tells each lost connection with a traceback; what matters of it comes as our own errors
    logging.getLogger("paramiko").setLevel(logging.INFO if _verbosity > 1 else logging.CRITICAL)
    threading.excepthook = _thread_died


def _thread_died(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "?"
    error = args.exc_value or args.exc_type()
    logging.getLogger("vfs").error("the thread %s ended with %r", name, error, exc_info=error)


def daemon() -> None:
    """From now on, log dated to stderr, which is a log file by then, events of the link included."""
    to_stderr(_DATED, logging.INFO)


def to_file(log: int) -> None:
    """Log to this descriptor only."""
    stream = os.fdopen(log, "a", encoding="utf-8", errors="backslashreplace")
    _install(logging.StreamHandler(stream), _DATED, logging.INFO)


def open_log(log_file: Path) -> int:
    """A descriptor that appends to the log file (0600), which is set aside first if it is too long. Raises OSError."""
    paths.make_private(log_file.parent)
    if log_file.exists() and log_file.stat().st_size > _LOG_LIMIT:
        log_file.replace(log_file.with_name(log_file.name + ".1"))
    # a FIFO that nobody reads fails instead of waiting for a reader
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(log_file, flags, 0o600)
    os.set_blocking(fd, True)
    return fd


def tell_traceback(error: BaseException) -> bool:
    """With -v, print the traceback on stderr. Returns whether it was printed."""
    if not _verbosity:
        return False
    print(_trace(error), file=sys.stderr)
    return True


def _trace(error: BaseException) -> str:
    """A traceback in which a line break within an error's text is escaped."""
    text = "".join(traceback.format_exception(error))
    todo: list[BaseException | None] = [error]
    for link in todo:
        if link is not None:
            text = text.replace(str(link), printable(str(link)))
            todo += [one for one in (link.__cause__, link.__context__) if one not in todo]
            todo += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    return "\n".join(map(printable, text.rstrip("\n").split("\n")))
