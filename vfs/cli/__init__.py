"""The command line: parse, call, print. One file per command; heavy modules are imported inside the commands."""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

import click

from vfs import __version__
from vfs.base.errors import ArtisyncError, NoThread, NoWorkingDirectory, TooManyFiles, UsageError
from vfs.cli import console, logs

log = logging.getLogger(__name__)

THREADS_SECONDS = 0.3

COMMANDS = {
    "connect": "vfs.cli.connect",
    "mount": "vfs.cli.mount",
    "unmount": "vfs.cli.unmount",
    "status": "vfs.cli.status",
    "ls": "vfs.cli.ls",
    "wait": "vfs.cli.wait",
    "inspect": "vfs.cli.inspect",
    "prefetch": "vfs.cli.prefetch",
    "pin": "vfs.cli.prefetch:pin",
    "unpin": "vfs.cli.prefetch:unpin",
    "pull": "vfs.cli.pull",
    "cat": "vfs.cli.cat",
    "tensorboard": "vfs.cli.tensorboard",
    "doctor": "vfs.cli.doctor",
    "cache": "vfs.cli.cache",
    "profile": "vfs.cli.profile",
    "completion": "vfs.cli.completion",
    "demo": "vfs.cli.demo",
}
"""Where each command is: a module, and in it `command` or the name after the colon."""


def load(name: str) -> click.Command:
    """A command, imported only when it is asked for; each option can also be given as `ARTISYNC_<OPTION>`."""
    module, _, attribute = COMMANDS[name].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute or "command")
    _name_variables(command)
    return command


def _name_variables(command: click.Command) -> None:
    for param in command.params:
        if isinstance(param, click.Option) and param.envvar is None and not param.is_eager:
            param.envvar = "ARTISYNC_" + max(param.opts, key=len).lstrip("-").upper().replace("-", "_")
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _name_variables(inner)


class LazyGroup(click.Group):
    """Knows its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word in COMMANDS or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        like = difflib.get_close_matches(word, COMMANDS, n=1)
        like += [name for name in COMMANDS if word and name.startswith(word) and name not in like]
        meant = f" Did you mean {' or '.join(like)}?" if like else ""
        raise click.UsageError(f"No such command {word!r}.{meant}", ctx)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="artisync", message="%(prog)s %(version)s")
@logs.verbose_option
def cli() -> None:
    """A training cluster's artifacts as local files.

    \b
    To start:
      artisync connect "ssh -p PORT USER@HOST"
      artisync mount ./artifacts
    """


def main() -> NoReturn:
    """The entry point. Exits with 0, 1 on failure, 2 on wrong usage, 130 on Ctrl-C."""
    code = run(sys.argv[1:])
    _let_threads_end()
    sys.exit(code)


def _let_threads_end() -> None:
    """Wait a moment for threads that nobody waits for: one that runs while the interpreter ends may crash it.

    What is still there is in a system call, and stays there.
    """
    end = time.monotonic() + THREADS_SECONDS
    while (left := end - time.monotonic()) > 0:
        thread = next((thread for thread in threading.enumerate() if thread.daemon), None)
        if thread is None:
            return
        thread.join(left)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Every expected error is printed on stderr."""
    sys.excepthook = _unexpected
    sys.unraisablehook = _unraisable
    console.open_streams()
    if "_ARTISYNC_COMPLETE" in os.environ:
        importlib.import_module("vfs.cli.completion")  # knows how to speak to the shell
    try:
        with console.terminal_kept():
            result = cli.main(args=list(arguments), prog_name="artisync", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        return 130
    except click.ClickException as e:
        _tell_usage(e)
        return e.exit_code
    except BrokenPipeError:  # the reader of our output has exited
        return 1
    except (ArtisyncError, RuntimeError, OSError) as e:
        told = e if isinstance(e, ArtisyncError) else _machine_in_trouble(e)
        if told is None:
            raise
        console.tell_error(told)
        logs.tell_traceback(e)
        return 2 if isinstance(told, UsageError) else 1
    return result if isinstance(result, int) else 0


def _machine_in_trouble(error: RuntimeError | OSError) -> ArtisyncError | None:
    """What a failure that may come from anywhere says of this machine; None for any other."""
    if NoThread.caused(error):
        return NoThread(str(error))
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return TooManyFiles(f"too many open files; the limit is {limit}")
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except OSError:
            return NoWorkingDirectory("the working directory is gone")
    return None


def _tell_usage(error: click.ClickException) -> None:
    """Print wrong usage as all other errors are printed; a group without a subcommand prints its help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    text = error.format_message()
    if context is not None and text == context.get_help():
        console.tell(*text.split("\n"))
        return
    text = " ".join(text.split())  # click lists choices in lines of their own
    stop = "" if text.endswith((".", "?", "?)")) else "."
    console.tell(f"artisync: {console.printable(text[:1].lower() + text[1:])}{stop}")
    if context is not None:
        console.tell(f"See `{context.command_path} --help`.")


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Objects that Ctrl-C left half made may fail when they are collected; users need not see it."""
    log.debug("when %r was collected: %r", what.object, what.exc_value)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug or a machine in trouble: print one line, and the traceback with -v."""
    if issubclass(kind, KeyboardInterrupt):
        return
    console.tell(f"artisync: unexpected {kind.__name__}: {error}")
    if not logs.tell_traceback(error):
        console.tell("Run it again with -v for the traceback.")
