"""Where a server is: the `ssh …` line of the control panel, taken apart and put together again. Pure.

Nothing here looks names up or reads a file; what an alias of `~/.ssh/config` stands for is found out when
dialling.
Sources: ssh(1) of OpenSSH 9 for the options; draft-ietf-secsh-scp-sftp-ssh-uri-04 for `ssh://`.
"""

from __future__ import annotations

import getopt
import os.path
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from vfs.base.errors import UsageError

_OPTIONS = "p:i:l:J:c:m:o:" + "46AaCfgKkMNnqTtvXxYy" + "L:R:D:E:e:"
"""For getopt(3). Flags, forwardings, the log file and the escape character are ignored: panels and wikis paste them, and they do
not change where and as whom to log in."""

_NAMES = {"-p": "Port", "-l": "User", "-i": "IdentityFile", "-J": "ProxyJump", "-c": "Ciphers", "-m": "MACs"}
"""What an option is called in ssh_config(5)."""

_UNDERSTOOD = "-p PORT, -i KEYFILE, -l USER, -J JUMPHOST, -c CIPHERS, -m MACS, -o Key=Value"

_LOOKS = "it looks like `ssh -p 30022 user@host`"

_HOST = re.compile(r"[A-Za-z0-9_:](?:[\w.:%\-]*[\w:])?\.?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSAFE_USER = re.compile(r"[\x00-\x20\x7f'\"`$\\;&<>|(){}]")
"""What ssh(1) refuses in a user's name, since it could reach a shell through ProxyCommand."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server as the user named it: `host` may be an alias of `~/.ssh/config`, None is left to it."""

    host: str
    port: int | None = None
    user: str | None = None
    keys: tuple[str, ...] = ()
    """Private key files (`-i`), in order; absolute, or starting with `~`."""
    jump: str | None = None
    """As after `-J`: `[user@]host[:port]`, several with commas, or `none`."""
    options: tuple[tuple[str, str], ...] = ()
    """What `-o Key=Value` gave beyond Port, User, IdentityFile and ProxyJump, in order."""

    @classmethod
    def parse(cls, words: str | Sequence[str]) -> Address:
        """Take the panel's line as pasted, or its words.

        As for ssh(1), the first of two values for one option counts, and options may follow the host. Key
        files are relative to the present directory.

        Raises `errors.UsageError` that names what is not understood.
        """
        return _Line(_split(words)).address()

    @classmethod
    def parse_jump(cls, text: str) -> tuple[Address, ...]:
        """The hosts of a `-J` value in the order in which they are passed; empty for `none`.

        Raises `errors.UsageError`.
        """
        if text.strip().lower() == "none":
            return ()
        try:
            return tuple(_place(part.strip()) for part in text.split(","))
        except UsageError as e:
            raise UsageError(f"-J {text!r}: {e}") from e

    def line(self) -> str:
        """A canonical `ssh …` line, quoted for a shell, that `parse` takes back to an equal address."""
        jump = ["-J", self.jump] if self.jump is not None else []
        place = f"{self.user}@{self.host}" if self.user is not None else self.host
        return shlex.join(["ssh", *jump, *self.words(), place])

    def words(self) -> list[str]:
        """Port, keys and options as words for ssh."""
        pairs = [("-p", str(self.port))] if self.port is not None else []
        pairs += [("-i", key) for key in self.keys]
        pairs += [("-o", f"{name}={value}") for name, value in self.options]
        return [word for pair in pairs for word in pair]


def _split(words: str | Sequence[str]) -> list[str]:
    if isinstance(words, str):
        words = [words]
    parts = list(words)
    if len(parts) == 1:
        try:
            parts = shlex.split(parts[0])
        except ValueError as e:
            raise UsageError(
                f"the ssh line {words[0]!r} cannot be parsed ({str(e).lower()}); {_LOOKS}"
            ) from e
    # A prompt that was copied along with the line.
    while parts and parts[0] in ("$", "#", "%", ">"):
        parts = parts[1:]
    if parts and os.path.basename(parts[0]) == "ssh":
        parts = parts[1:]
    if not parts:
        raise UsageError(f"the ssh line names no host; {_LOOKS}")
    return parts


@dataclass(slots=True)
class _Line:
    """The words of one line while they are being read."""

    words: list[str]
    host: str | None = None
    port: int | None = None
    user: str | None = None
    jump: str | None = None
    keys: list[str] = field(default_factory=list)
    options: list[tuple[str, str]] = field(default_factory=list)

    def address(self) -> Address:
        words = self.words
        while words:  # options may follow the host
            try:
                given, words = getopt.getopt(words, _OPTIONS)
            except getopt.GetoptError as e:
                if "requires" in e.msg:
                    raise UsageError(f"the option -{e.opt} needs a value") from None
                if len(e.opt) > 1:
                    raise UsageError(
                        f"'--{e.opt}' is not an option of ssh; artisync understands {_UNDERSTOOD}"
                    ) from None
                raise UsageError(f"unknown option -{e.opt}; artisync understands {_UNDERSTOOD}") from None
            for option, value in given:
                if not value and f"{option[1:]}:" in _OPTIONS:
                    raise UsageError(f"the option {option} needs a value")
                if option == "-o":
                    name, value = _key_value(value)
                    self._set(name, value, f"-o {name}")
                elif option in _NAMES:
                    self._set(_NAMES[option], value, option)
            if words and self.host is not None:
                raise UsageError(
                    f"{shlex.join(words)!r} follows the host: artisync runs no command on the server"
                )
            if words:
                self._destination(words.pop(0))
        if self.host is None:
            raise UsageError(f"the ssh line names no host; {_LOOKS}")
        return Address(self.host, self.port, self.user, tuple(self.keys), self.jump, tuple(self.options))

    def _set(self, name: str, value: str, option: str) -> None:
        """Take the value that `option` gives to what ssh_config(5) calls `name`; the first of two counts."""
        if _CONTROL.search(value):
            raise UsageError(f"the value of {option} contains a control character: {value!r}")
        match name.lower():
            case "port":
                port = _port(value, option)
                self.port = self.port or port
            case "user":
                user = _user(value)
                self.user = self.user or user
            case "identityfile":
                self.keys.append(_key_file(value))
            case "proxyjump":
                Address.parse_jump(value)
                self.jump = self.jump or value
            case "hostname":
                self.options.append((name, _host(value)))
            case _:
                self.options.append((name, value))

    def _destination(self, word: str) -> None:
        place = _place(word)
        if place.port is not None and not word.lower().startswith("ssh://"):
            raise UsageError(f"{word!r}: ssh takes no port after the host; write `-p {place.port}`")
        self.host = place.host
        self.port = self.port or place.port
        self.user = self.user or place.user


def _key_value(text: str) -> tuple[str, str]:
    """`Key=Value` or `Key Value`, as ssh_config(5) has it."""
    m = re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+)(.*\S)\s*", text, re.ASCII | re.DOTALL)
    if m is None:
        raise UsageError(f"-o {text!r} is not of the form Key=Value")
    return m[1], m[2]


def _place(text: str) -> Address:
    """`[user@]host[:port]`, or the same as `ssh://`; parameters after `;` are not in use anywhere and refused."""
    is_url = text.lower().startswith("ssh://")
    authority, slash, path = text[len("ssh://") :].partition("/") if is_url else (text, "", "")
    if path:
        raise UsageError(
            f"{text!r}: the path {slash + path!r} does not belong here; name it with `--remote-root`"
        )
    user, at, place = authority.rpartition("@")
    host, port = _host_port(place, text)
    return Address(host, port, _user(unquote(user) if is_url else user) if at else None)


def _host_port(text: str, whole: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]`, `[v6]:port`, or a bare v6 address (two colons or more)."""
    m = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text)
    if m is not None:
        host, port = m.group(1), m.group(2)
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    if port == "":
        raise UsageError(f"{whole!r}: there is no port after the colon")
    return _host(host), None if port is None else _port(port, whole)


def _host(text: str) -> str:
    if not text:
        raise UsageError("the host's name is empty")
    if _HOST.fullmatch(text) is None or (
        ":" in text and not re.fullmatch(r"[0-9A-Fa-f:.]+(?:%[\w.\-]+)?", text)
    ):
        raise UsageError(f"{text!r} is not a host's name")
    return text


def _port(text: str, what: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise UsageError(f"{what}: {text!r} is not a port (a number from 1 to 65535)")
    return int(text)


def _user(text: str) -> str:
    if not text or text.startswith("-") or _UNSAFE_USER.search(text):
        raise UsageError(f"{text!r} is not a user's name")
    return text


def _key_file(text: str) -> str:
    """Absolute, since a profile is used from other directories too; `~` and ssh_config(5) tokens are kept."""
    return text if text.startswith(("/", "~", "%", "$")) else os.path.abspath(text)
