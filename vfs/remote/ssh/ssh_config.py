"""What an address means on this machine: `ssh -G` says so, which knows all of ssh_config(5).

Where there is no `ssh`, paramiko's reader of `~/.ssh/config` takes its place; it knows no Include, for example.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import paramiko

from vfs.base import errors
from vfs.base.address import Address
from vfs.base.places import local_user
from vfs.remote.ssh import ssh_errors
from vfs.remote.ssh.destination import Destination, NewKey
from vfs.remote.ssh.hostkeys import host_name
from vfs.remote.ssh.prompts import Deadline

Found = dict[str, list[str]]
"""Values by keyword in small letters, as `ssh -G` prints them."""

_DEFAULT_KEYS = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk"))
"""The first ones of OpenSSH's readconf.c; `ssh -G` prints all of them where none is named."""

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}

_ONLY_SSH = {
    "pkcs11provider": "PKCS11Provider",
    "knownhostscommand": "KnownHostsCommand",
    "bindaddress": "BindAddress",
    "bindinterface": "BindInterface",
    "proxyusefdpass": "ProxyUseFdpass",
    "hostbasedauthentication": "HostbasedAuthentication",
}
"""Keywords that paramiko cannot obey, unless their value is none or no."""

_DETACHING = ("StdinNull", "ForkAfterAuthentication")


def resolve(address: Address, deadline: Deadline, config: Path | None = None) -> Destination:
    """Look `address` up; `config` stands in for `~/.ssh/config`. Blocks.

    Raises `errors.ConnectError` if the configuration cannot be understood.
    """
    config = config or _home_config()
    if _database_home() and shutil.which("ssh") is not None:  # ssh refuses to run for a user of no name
        return _destination(address, _ask_ssh(address, deadline, config))
    return _destination(address, _ask_paramiko(address, config or Path.home() / ".ssh/config"))


def ssh_command(config: Path | None) -> list[str]:
    """`ssh` with the file that `resolve` reads."""
    config = config or _home_config()
    return ["ssh"] if config is None else ["ssh", "-F", str(config)]


def line_options(address: Address) -> list[str]:
    """The address as options of ssh, but for its jump host and its host."""
    return [*(["-l", address.user] if address.user is not None else []), *address.words()]


def no_ssh(failure: OSError) -> errors.ConnectError:
    """Why `ssh` could not be started."""
    if isinstance(failure, FileNotFoundError):
        return errors.ConnectError("`ssh` is not installed (Debian: openssh-client)")
    return errors.ConnectError(f"`ssh` cannot be run: {failure.strerror}")


def _home_config() -> Path | None:
    """The configuration in $HOME if that is not the home directory of the user database, where ssh looks."""
    config = Path.home() / ".ssh/config"
    return config if str(Path.home()) != _database_home() and config.exists() else None


def _database_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user of no name
        return ""


def _ask_ssh(address: Address, deadline: Deadline, config: Path | None) -> Found:
    jump = ["-J", address.jump] if address.jump is not None else []
    words = [
        *ssh_command(config),
        "-Gs",
        "-oRemoteCommand=none",
        *jump,
        *line_options(address),
        "--",
        address.host,
        "sftp",
    ]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline.need(address.host),
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise errors.ConnectError("ssh takes too long to read its configuration (a `Match exec`?)") from e
    except OSError as e:
        raise no_ssh(e) from e
    if done.returncode != 0:
        raise ssh_errors.error_of(done.stderr.decode("utf-8", "replace"), address.host)
    found: Found = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


def _ask_paramiko(address: Address, config: Path) -> Found:
    reader = paramiko.SSHConfig()
    try:
        reader.parse(config.read_text("utf-8", "replace").splitlines())
    except FileNotFoundError:
        pass
    except (paramiko.ssh_exception.ConfigParseError, OSError, ValueError, KeyError) as e:
        raise errors.ConnectError(f"cannot parse {config}: {e}") from e
    os.environ["LOGNAME"] = local_user()  # where the user has no name, paramiko would fail
    try:
        looked_up = reader.lookup(address.host)
    except (paramiko.SSHException, ImportError, KeyError, ValueError) as e:
        raise errors.ConnectError(f"{config}: {e}") from e
    found: Found = {
        "user": [local_user()],
        "identityfile": list(_DEFAULT_KEYS),
        "userknownhostsfile": ["~/.ssh/known_hosts ~/.ssh/known_hosts2"],
        "globalknownhostsfile": ["/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"],
    }
    found |= {name: value if isinstance(value, list) else [value] for name, value in looked_up.items()}
    line = [
        *reversed(address.options),
        ("port", address.port),
        ("user", address.user),
        ("proxyjump", address.jump),
    ]
    return found | {name.lower(): [str(value)] for name, value in line if value is not None}


def _destination(address: Address, found: Found) -> Destination:
    def one(name: str) -> str | None:
        """The first value; None if the keyword is not set, or set to none or no."""
        value = found.get(name, ["none"])[0]
        return None if value.lower() in ("none", "no", "false") else value

    host, user, port = one("hostname") or address.host, one("user") or "", _port(found)
    alias, jump = one("hostkeyalias"), one("proxyjump")
    tokens = _tokens(address, host, port, user, alias, jump or "")
    named = found.get("identityfile", [])
    defaults = set(_DEFAULT_KEYS) <= set(named)
    files = [*address.keys, *(n for n in named if not (address.keys and defaults))]
    keys = dict.fromkeys(_path(n, tokens) for n in files if n.lower() != "none")
    return Destination(
        address=address,
        host=host,
        port=port,
        user=user,
        family=_FAMILIES.get(one("addressfamily") or "any", socket.AF_UNSPEC),
        key_name=host_name(host, port, alias),
        known_hosts=_known_hosts(found, tokens),
        new_key=_new_key(found, host),
        key_files=tuple(keys),
        keys_named=bool(address.keys) or not defaults,
        identities_only=one("identitiesonly") is not None,
        agent=_agent(found.get("identityagent", ["SSH_AUTH_SOCK"])[0], tokens),
        jumps=_jumps(_expand(jump, tokens)) if jump else (),
        proxy_command=None if jump or not (command := one("proxycommand")) else _expand(command, tokens),
        ciphers=tuple((one("ciphers") or "").split(",")) if one("ciphers") else (),
        detaching=tuple(name for name in _DETACHING if one(name.lower()) is not None),
        only_ssh=_only_ssh(found, list(keys)),
    )


def _port(found: Found) -> int:
    text = found.get("port", ["22"])[0]
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise errors.ConnectError(f"~/.ssh/config: {text!r} is not a port")
    return int(text)


def _jumps(text: str) -> tuple[Address, ...]:
    try:
        return Address.parse_jump(text)
    except errors.UsageError as e:
        raise errors.ConnectError(f"ProxyJump: {e}") from e


def _known_hosts(found: Found, tokens: dict[str, str]) -> tuple[Path, ...]:
    names: list[str] = []
    for keyword in ("userknownhostsfile", "globalknownhostsfile"):
        # `ssh -G` prints names with blanks without quotes: a word that begins no path continues the one before.
        names += re.split(r" (?=[/~])", found.get(keyword, ["none"])[0])
    home = _database_home()
    ours = (f"{home}/.ssh/known_hosts", f"{home}/.ssh/known_hosts2")
    names = [f"~{n.removeprefix(home)}" if n in ours else n for n in names]
    return tuple(_path(n.strip('"'), tokens) for n in names if n.lower() not in ("none", "/dev/null"))


def _new_key(found: Found, host: str) -> NewKey:
    if found.get("nohostauthenticationforlocalhost", ["no"])[0] == "yes" and _loopback(host):
        return NewKey.ANY
    match found.get("stricthostkeychecking", ["ask"])[0].lower():
        case "no" | "off" | "false":
            nothing_kept = found.get("userknownhostsfile", [""])[0] == "/dev/null"
            return NewKey.ANY if nothing_kept else NewKey.ACCEPT
        case "accept-new":
            return NewKey.ACCEPT
        case _:
            return NewKey.ASK


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _only_ssh(found: Found, keys: Sequence[Path]) -> str | None:
    named = [c for c in found.get("certificatefile", []) if c.lower() != "none"]
    beside = [c for key in keys if os.path.exists(c := f"{str(key).removesuffix('.pub')}-cert.pub")]
    if named or beside:
        return f"the certificate {(named or beside)[0]}"
    for keyword, name in _ONLY_SSH.items():
        if found.get(keyword, ["none"])[0].lower() not in ("none", "no", "false", ""):
            return name
    return None


# --- tokens and variables -----------------------------------------------------------------------------------------


def _tokens(
    address: Address, host: str, port: int, user: str, alias: str | None, jump: str
) -> dict[str, str]:
    """What ssh_config(5), "TOKENS", puts in place of a percent sign and a letter."""
    here = socket.gethostname()
    tokens = {
        "%": "%",
        "d": str(Path.home()),
        "h": host,
        "i": str(os.getuid()),
        "j": jump,
        "k": alias or address.host,
        "L": here.partition(".")[0],
        "l": here,
        "n": address.host,
        "p": str(port),
        "r": user,
    }
    connection = "".join(tokens[letter] for letter in "lhprj")
    return tokens | {"C": hashlib.sha1(connection.encode("utf-8", "surrogateescape")).hexdigest()}


def _expand(text: str, tokens: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] == "u":
            return local_user()
        return tokens.get(match[1], match[0])

    return re.sub(r"%(.)", value, text)


def _path(text: str, tokens: dict[str, str]) -> Path:
    expanded = re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), _expand(text, tokens))
    return Path(os.path.expanduser(expanded))


def _agent(setting: str, tokens: dict[str, str]) -> str | None:
    """The setting may be a path, `none`, `SSH_AUTH_SOCK`, or `$VARIABLE`."""
    if setting.lower() == "none":
        return None
    if setting == "SSH_AUTH_SOCK" or (setting.startswith("$") and "{" not in setting):
        return os.environ.get(setting.removeprefix("$")) or None
    return str(_path(setting.strip('"'), tokens))


def config_quote(file: Path) -> str:
    """A file's name inside an option, where `%` and `${` are special, and blanks separate."""
    name = str(file).replace("%", "%%")
    return f'"{name}"' if " " in name else name
