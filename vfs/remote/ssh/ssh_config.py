"""What an address means on this machine: the line, then `~/.ssh/config`, then ssh's defaults.

Source: ssh_config(5) of OpenSSH: for each keyword the first value counts, the line's before the file's.
"""

from __future__ import annotations

import getpass
import glob
import logging
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh.destination import place
from vfs.remote.ssh.hostkeys import SYSTEM_FILE, host_name
from vfs.remote.ssh.keyfiles import DEFAULT_NAMES

log = logging.getLogger(__name__)

_MAX_INCLUDES = 16
"""Depth of nested Include, as in OpenSSH's readconf.c."""


@dataclass(frozen=True, slots=True)
class Target:
    """One host to log in to, with nothing left open."""

    host: str
    port: int
    user: str
    key_name: str
    """The name under which its host key is kept."""
    key_files: tuple[Path, ...]
    """Named by the line or the file, in order; else the default ones."""
    keys_named: bool
    """Whether `key_files` were named, rather than being the defaults."""
    identities_only: bool
    agent: str | None
    """Path of the agent's socket; None: no agent."""
    jumps: tuple[Address, ...]
    """Hosts to pass on the way, in order."""
    proxy_command: str | None
    known_hosts: tuple[Path, ...]
    """The user's and the system's files."""

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return place(self.host, self.port)


def resolve(address: Address, ssh_config: Path | None = None) -> Target:
    """Look `address` up in `ssh_config` (default `~/.ssh/config`; no harm if it is not there).

    Raises `errors.ConnectError` if the file cannot be understood.
    """
    line = {name.lower(): value for name, value in reversed(address.options)}
    found = _lookup(address.host, line, ssh_config)
    port = address.port or _port(found.get("port"), ssh_config)
    host = str(found.get("hostname") or address.host)
    user = address.user or found.get("user") or _local_user()
    named = [*address.keys, *_as_list(found.get("identityfile"))]
    jump, command = _way(address, line, found)
    tokens = {"%h": host, "%p": str(port), "%r": user, "%n": address.host, "%d": str(Path.home()), "%%": "%"}
    return Target(
        host=host,
        port=port,
        user=user,
        key_name=host_name(host, port, found.get("hostkeyalias")),
        key_files=tuple(_path(n, tokens) for n in named if n.lower() != "none")
        if named
        else tuple(Path.home() / ".ssh" / n for n in DEFAULT_NAMES),
        keys_named=bool(named),
        identities_only=str(found.get("identitiesonly", "no")).lower() in ("yes", "true"),
        agent=_agent(found.get("identityagent"), tokens),
        jumps=_jumps(jump) if jump else (),
        proxy_command=_expand(command, tokens) if command else None,
        known_hosts=_known_hosts(found, tokens),
    )


def _lookup(host: str, line: dict[str, str], file: Path | None) -> dict[str, str]:
    path = Path.home() / ".ssh" / "config" if file is None else file
    config = paramiko.SSHConfig()
    try:
        config.parse(_included(path))
        found = dict(config.lookup(host))
    except FileNotFoundError:
        found = {"hostname": host}
    except (paramiko.ssh_exception.ConfigParseError, OSError, ValueError, KeyError) as e:
        raise errors.ConnectError(f"{path} cannot be understood: {e}") from e
    except (paramiko.ssh_exception.CouldNotCanonicalize, ImportError) as e:
        raise errors.ConnectError(f"{path}: {e}; try `--transport openssh`") from e
    return found | line


def _included(path: Path) -> Iterator[str]:
    """The file's lines with what `Include` names in place of it, since paramiko does not know the keyword.

    An Include inside a Host or Match block that is not `Host *` is left out: what it holds would have to be
    conditional.
    """
    block = "Host *"
    for line in _read_config(path):
        words = line.replace("=", " ", 1).split(None, 1)
        keyword = words[0].lower() if words else ""
        if keyword in ("host", "match"):
            block = line
        if keyword != "include":
            yield line
        elif block.split() == ["Host", "*"]:
            yield from _expansion(words[1] if len(words) > 1 else "", path.parent, 1)
            yield "Host *"
        else:
            log.info("%s: an Include inside %r is not followed", path, block)


def _expansion(patterns: str, directory: Path, depth: int) -> Iterator[str]:
    if depth > _MAX_INCLUDES:
        raise ValueError("too many nested Includes")
    for pattern in shlex.split(patterns):
        full = os.path.join(directory, os.path.expanduser(pattern))
        for name in sorted(glob.glob(full)):
            yield "Host *"
            for line in _read_config(Path(name)):
                words = line.replace("=", " ", 1).split(None, 1)
                if len(words) > 1 and words[0].lower() == "include":
                    yield from _expansion(words[1], directory, depth + 1)
                else:
                    yield line


def _read_config(path: Path) -> list[str]:
    return [s.strip() for s in path.read_text("utf-8", "replace").split("\n")]


def _way(address: Address, line: dict[str, str], found: dict[str, str]) -> tuple[str | None, str | None]:
    """The ProxyJump or the ProxyCommand: the line's wins over the file's; `none` ends the search."""
    if address.jump is not None:
        return address.jump, None
    if "proxycommand" in line:
        return None, None if line["proxycommand"].lower() == "none" else line["proxycommand"]
    jump = found.get("proxyjump")
    if jump and jump.lower() != "none":
        return jump, None
    return None, found.get("proxycommand")


def _jumps(text: str) -> tuple[Address, ...]:
    try:
        return Address.parse_jump(text)
    except errors.UsageError as e:
        raise errors.ConnectError(f"ProxyJump: {e}") from e


def _port(text: str | None, file: Path | None) -> int:
    if text is None:
        return 22
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise errors.ConnectError(f"{file or '~/.ssh/config'}: {text!r} is not a port")
    return int(text)


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as e:
        raise errors.ConnectError("the ssh line names no user, and this system does not tell yours") from e


def _as_list(value: str | list[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _expand(text: str, tokens: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, tokens)), lambda m: tokens[m.group()], text)


def _path(text: str, tokens: dict[str, str]) -> Path:
    return Path(os.path.expanduser(_expand(text.strip('"'), tokens)))


def _agent(setting: str | None, tokens: dict[str, str]) -> str | None:
    """The line may name a path, `none`, `SSH_AUTH_SOCK`, or `$VARIABLE`."""
    if setting is None or setting == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if setting.lower() == "none":
        return None
    if setting.startswith("$"):
        return os.environ.get(setting[1:].strip("{}")) or None
    return str(_path(setting, tokens))


def _known_hosts(found: dict[str, str], tokens: dict[str, str]) -> tuple[Path, ...]:
    setting = found.get("userknownhostsfile")
    if setting is None:
        home = Path.home() / ".ssh"
        return home / "known_hosts", home / "known_hosts2", SYSTEM_FILE
    names = [n for n in shlex.split(setting) if n.lower() != "none"]
    return *(_path(n, tokens) for n in names), SYSTEM_FILE
