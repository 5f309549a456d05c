"""The options that commands share, and their values as given, for `settings.resolve`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vfs.base.errors import UsageError
from vfs.base.option_values import DEFAULT_ROOT, TRANSPORTS, VIAS, as_cache_size, check_root
from vfs.base.quantities import parse_duration, parse_size
from vfs.base.settings import Settings
from vfs.cli import logs, names
from vfs.frontends import mountpoint as mountpoints

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

HYPHEN = "\N{NON-BREAKING HYPHEN}"

F = TypeVar("F", bound=Callable[..., Any])


class Help(click.HelpFormatter):
    """Breaks no name at a hyphen."""

    def write_text(self, text: str) -> None:
        super().write_text(_joined(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(term, _joined(text)) for term, text in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(HYPHEN, "-")


def _joined(text: str) -> str:
    return text.replace("-", HYPHEN)


class Context(click.Context):
    """Prints help by `Help`."""

    formatter_class = Help


class ConnectionOption(click.Option):
    """An option about the server or the cache."""


class Command(click.Command):
    """Shows the options about the server and the cache last in its help, under a heading of their own, and --verbose and
    --help after its own."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        connection: list[tuple[str, str]] = []
        for param in sorted(self.get_params(ctx), key=lambda param: param.is_eager):
            record = param.get_help_record(ctx)
            if record is not None:
                (connection if isinstance(param, ConnectionOption) else own).append(record)
        for title, records in (("Options", own), ("Connection and cache options", connection)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class _Parsed(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A text that a parser of `vfs.base` understands; kept as text, so that it can be saved and passed on."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._parse(str(value))
        except UsageError as e:
            self.fail(str(e), param, ctx)
        return str(value)


class Number(click.types.IntParamType):
    """A whole number of at least `least`, and at most `most`."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = int(super().convert(value, param, ctx))
        if found < self._least:
            self.fail(f"{found} is less than {self._least}", param, ctx)
        if self._most is not None and found > self._most:
            self.fail(f"{found} is more than {self._most}", param, ctx)
        return found


class MountPoint(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A directory as an absolute path without symbolic links, found without touching a mount that may hang."""

    name = "mountpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value:
            self.fail("the mount point is an empty path", param, ctx)
        return real_path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="dir")]


def real_path(path: str | os.PathLike[str]) -> Path:
    """As `os.path.realpath`, but a mount point at the end of the path is not accessed: it may be dead or hang."""
    here = Path(os.path.abspath(path))
    for _ in range(40):  # as many links as Linux follows
        here = Path(os.path.realpath(here.parent)) / here.name
        if mountpoints.is_mounted(here):
            return here
        try:
            here = Path(os.path.abspath(here.parent / os.readlink(here)))
        except OSError:
            return here
    return here


def _option(
    name: str, help: str, *, cls: type[click.Option] = ConnectionOption, **more: Any
) -> Callable[[F], F]:
    return click.option(f"--{name}", cls=cls, help=help, default=None, **more)


_PATH = click.Path(path_type=str)
SIZE, DURATION = _Parsed("size", parse_size), _Parsed("duration", parse_duration)

OPTIONS: dict[str, Callable[[Any], Any]] = {
    "profile": _option(
        "profile", "Saved server  [default: default]", metavar="NAME", shell_complete=names.profiles
    ),
    "ssh": _option("ssh", "ssh line of the server, instead of a profile.", metavar="LINE"),
    "remote_root": _option(
        "remote-root",
        f"Directory on the server, absolute or relative to the login directory  [default: {DEFAULT_ROOT}]",
        metavar="PATH",
        type=_Parsed("path", check_root),
    ),
    "cache_dir": _option("cache-dir", "Cache directory.", metavar="DIR", type=_PATH),
    "cache_size": _option(
        "cache-size",
        "Maximum cache size  [default: 20GiB]",
        metavar="SIZE",
        type=_Parsed("size", as_cache_size),
    ),
    "timeout": _option(
        "timeout",
        "Time limit for one operation  [default: 30s]",
        metavar="TIME",
        type=DURATION,
    ),
    "ttl": _option(
        "ttl",
        "Maximum age of names and sizes  [default: 2s]",
        metavar="TIME",
        type=DURATION,
    ),
    "transport": _option(
        "transport",
        "SSH implementation; paramiko falls back to the system's ssh  [default: paramiko]",
        type=click.Choice(TRANSPORTS),
    ),
    "via": _option(
        "via",
        "How to mount: FUSE, or NFS from this machine to itself  [default: fuse; on macOS nfs]",
        type=click.Choice(VIAS),
    ),
    "accept_new_host_key": _option(
        "accept-new-host-key",
        "Accept a new server's key without asking; a changed key is still refused.",
        is_flag=True,
    ),
    "replace_host_key": _option(
        "replace-host-key", "Ask about a changed host key instead of refusing it.", is_flag=True
    ),
    "metered": _option(
        "metered",
        "Metered link: fetch little ahead, ask before prefetch and pin.",
        is_flag=True,
    ),
    "foreground": _option(
        "foreground", "Stay in the foreground; Ctrl-C unmounts.", cls=click.Option, is_flag=True
    ),
    "allow_other": _option(
        "allow-other", "Allow other users to read the mount.", cls=click.Option, is_flag=True
    ),
    "log_file": _option("log-file", "Log file of the mount.", cls=click.Option, metavar="FILE", type=_PATH),
}
"""By their names in `resolve`."""

BASE = ("profile", "ssh", "remote_root", "cache_dir")
"""What every command that talks to the server takes."""


def json_option(help: str = "Print JSON.") -> Callable[[F], F]:
    """`--json`, which the command gets as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def given_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds these options and -v; the command gets their values as `given`, for `resolve`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            return command(*args, given=weigh(click.get_current_context(), given), **kwargs)

        decorated: Callable[..., Any] = logs.verbose_option(wrapper)
        for name in reversed(names):
            decorated = OPTIONS[name](decorated)
        return decorated

    return decorate


def weigh(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """A server named on the command line, by line or by profile, beats one named the other way in the environment."""
    source: dict[str, ParameterSource | None] = {
        name: ctx.get_parameter_source(name) for name in ("ssh", "profile") if name in given
    }
    for name, other in (("ssh", "profile"), ("profile", "ssh")):
        if (
            source.get(name) is ParameterSource.COMMANDLINE
            and source.get(other) is ParameterSource.ENVIRONMENT
        ):
            given = {**given, other: None}
    return given


def command_line(ctx: click.Context) -> list[str]:
    """The options of this command that came from the command line, as words for another process."""
    return _words(ctx, ctx.params, (ParameterSource.COMMANDLINE,))


def lasting_command_line(ctx: click.Context, settings: Settings) -> list[str]:
    """As `command_line`, for a process without our environment and working directory."""
    absolute = {
        "ssh": settings.address.line(),
        "cache_dir": settings.cache_dir,
        "log_file": settings.log_file,
    }
    given = weigh(ctx, ctx.params)
    values = {name: absolute.get(name, value) for name, value in given.items() if value is not None}
    return _words(ctx, values, (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT))


def _words(ctx: click.Context, values: Mapping[str, Any], sources: tuple[ParameterSource, ...]) -> list[str]:
    words: list[str] = []
    for param in ctx.command.params:
        if not isinstance(param, click.Option) or param.name not in values or not param.expose_value:
            continue
        if ctx.get_parameter_source(param.name) not in sources:
            continue
        name = max(param.opts, key=len)
        words += [name] if param.is_flag else [f"{name}={values[param.name]}"]
    return [*words, *["-v"] * logs.verbosity()]
