"""Where things are kept, the saved profiles, and `Settings`: what one command works with.

A value comes from the first place that has one: the command line, `ARTISYNC_<OPTION>`, the profile, the default.
Nothing here holds state; all functions may be called from any thread.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import platformdirs

from vfs.base import paths, units
from vfs.base.address import Address
from vfs.base.errors import ConfigError, NoServerYet, UsageError

DEFAULT_PROFILE = "default"
DEFAULT_ROOT = "/shared/artifacts"
DEFAULT_CACHE_SIZE = 20 << 30
LEAST_CACHE_SIZE = 64 << 20
DEFAULT_TIMEOUT = 30.0
DEFAULT_TTL = 2.0

MOUNT_KIND = "fuse.artisync"
"""The type under which the kernel lists our mounts by FUSE."""

ViaName = Literal["fuse", "nfs"]
VIAS: tuple[ViaName, ...] = ("fuse", "nfs")
DEFAULT_VIA: ViaName = "nfs" if sys.platform == "darwin" else "fuse"
"""On macOS, FUSE needs a kernel extension, and what there is of it is too old."""

TransportName = Literal["paramiko", "openssh"]
TRANSPORTS: tuple[TransportName, ...] = ("paramiko", "openssh")


# --- places -------------------------------------------------------------------------------------------------------


def config_dir() -> Path:
    """Profiles and our known_hosts (`$XDG_CONFIG_HOME/artisync`)."""
    return platformdirs.user_config_path("artisync", appauthor=False)


def cache_dir() -> Path:
    """The block cache, unless `--cache-dir` names another (`$XDG_CACHE_HOME/artisync`)."""
    return platformdirs.user_cache_path("artisync", appauthor=False)


def state_dir() -> Path:
    """Logs, and control sockets where there is no runtime directory (`$XDG_STATE_HOME/artisync`)."""
    return platformdirs.user_state_path("artisync", appauthor=False)


# --- units --------------------------------------------------------------------------------------------------------

_UNITS = {"b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS |= dict.fromkeys((_letter, f"{_letter}i", f"{_letter}ib"), 1024**_power)
    _UNITS[f"{_letter}b"] = 1000**_power
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of "20GiB", "500 MB" or "1.5G" (K, M, G and T alone are powers of 1024).

    Raises `errors.UsageError` for anything else, for a number alone, and for nothing at all ("0B").
    """
    found = _QUANTITY.fullmatch(text)
    if found and not found[2]:
        raise UsageError(f"{text!r} has no unit; write it like 20GiB, 500MB or 1.5GiB")
    factor = _UNITS.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise UsageError(f"{text!r} is not a size; write it like 20GiB, 500MB or 1.5GiB")
    size = int(float(found[1]) * factor)
    if size <= 0:
        raise UsageError(f"{text!r} is not a size that can be used; write it like 20GiB, 500MB or 1.5GiB")
    return size


def parse_cache_size(text: str) -> int:
    """As `parse_size`, of a cache's limit. Raises `errors.UsageError` also for less than LEAST_CACHE_SIZE."""
    return _large_enough(parse_size(text))


def _large_enough(size: int) -> int:
    if size < LEAST_CACHE_SIZE:
        raise UsageError(
            f"a cache of {units.size(size)} is too small; the least is {units.size(LEAST_CACHE_SIZE)}"
        )
    return size


def parse_duration(text: str) -> float:
    """Seconds of "30", "2.5s", "500ms", "5min" or "1h". Raises `errors.UsageError`."""
    found = _QUANTITY.fullmatch(text)
    factor = _SECONDS.get(found[2].lower()) if found else None
    if found is None or factor is None or not math.isfinite(seconds := float(found[1]) * factor):
        raise UsageError(f"{text!r} is not a duration; write it like 30s, 500ms or 5min")
    return seconds


# --- settings -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one command works with. Times in seconds, sizes in bytes, paths absolute."""

    address: Address
    profile_name: str | None = None
    identity: str
    """Names the cache's content: it stays when a profile moves to a new container."""
    remote_root: str = DEFAULT_ROOT
    """Path on the server, absolute or from the login directory; bytes that are not UTF-8 are surrogate-escaped, see `root`."""
    cache_dir: Path
    cache_size: int = DEFAULT_CACHE_SIZE
    timeout: float = DEFAULT_TIMEOUT
    """The most that one file operation, or a connection attempt, may take."""
    ttl: float = DEFAULT_TTL
    """The most that attributes may be out of date while online."""
    transport: TransportName = "paramiko"
    known_hosts: Path
    """Our own file of accepted host keys; the user's is read, never written."""
    accept_new_host_key: bool = False
    replace_host_key: bool = False
    """Ask about a changed host key instead of refusing it; only `connect` sets it."""
    via: ViaName = DEFAULT_VIA
    """By which of the kernel's file systems a mount is shown."""
    metered: bool = False
    """Whether bytes cost money: little is fetched before it is asked for."""
    foreground: bool = False
    allow_other: bool = False
    log_file: Path | None = None
    verbose: int = 0

    @property
    def root(self) -> bytes:
        """`remote_root` as it goes over the wire."""
        return os.fsencode(self.remote_root)


# --- profiles -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """A saved server. `id` is made once and names the cache, so that a new container finds what the old one left."""

    name: str
    address: Address
    remote_root: str = DEFAULT_ROOT
    options: Mapping[str, object] = field(default_factory=dict)
    """Further options by their name in `Settings`: transport, cache_size, timeout, …"""
    id: str = field(default_factory=lambda: secrets.token_hex(16))


_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", re.ASCII)


def profiles_dir() -> Path:
    return config_dir() / "profiles"


def profile_path(name: str) -> Path:
    """The file of a profile. Raises `errors.UsageError` for a name that is not one."""
    if not _PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a profile; use letters, digits, '.', '_' and '-'")
    return profiles_dir() / f"{name}.json"


def profile_names() -> list[str]:
    """The saved profiles, sorted; empty if there are none."""
    try:
        return sorted(p.stem for p in profiles_dir().glob("*.json") if _PROFILE_NAME.fullmatch(p.stem))
    except OSError:
        return []


def load_profile(name: str) -> Profile | None:
    """The saved profile, or None if there is none of that name. Raises `errors.ConfigError` for a corrupt one."""
    path = profile_path(name)
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigError(f"cannot read the profile {path}: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"the profile {path} is corrupt: it is not JSON ({e})") from e
    if not isinstance(data, dict):
        raise ConfigError(f"the profile {path} is corrupt: it is not a JSON object")

    def text(key: str) -> str:
        if not isinstance(value := data.get(key), str) or not value:
            raise ConfigError(f"the profile {path} is corrupt: {key!r} should be a text")
        return value

    options = data.get("options", {})
    if not isinstance(options, dict):
        raise ConfigError(f"the profile {path} is corrupt: 'options' should be a JSON object")
    if unknown := sorted(options.keys() - _CONVERT.keys()):
        raise ConfigError(f"the profile {path} has an option that artisync does not know: {unknown[0]!r}")
    try:
        address = Address.parse(text("ssh"))
        root = check_root(text("remote_root"))
        for key, value in options.items():
            _CONVERT[key](value)
    except UsageError as e:
        raise ConfigError(f"the profile {path} is corrupt: {e}") from e
    return Profile(name=name, address=address, remote_root=root, options=options, id=text("id"))


def no_profile(name: str) -> ConfigError:
    """The error that there is no profile of that name, and which there are."""
    known = ", ".join(profile_names())
    if name == DEFAULT_PROFILE and not known:
        return NoServerYet("no server yet")
    return ConfigError(f"there is no profile {name!r}" + (f" (there are: {known})" if known else ""))


def save_profile(profile: Profile) -> Path:
    """Write it atomically, for the user's eyes only. Raises `errors.ConfigError` when that fails."""
    path = profile_path(profile.name)
    data = {
        "name": profile.name,
        "id": profile.id,
        "ssh": profile.address.line(),
        "remote_root": profile.remote_root,
        "options": dict(profile.options),
    }
    try:
        paths.make_private(path.parent)
        write_atomically(path, json.dumps(data, indent=2, default=str) + "\n")
    except OSError as e:
        raise ConfigError(f"cannot write the profile {path}: {e.strerror}") from e
    return path


def remove_profile(name: str) -> bool:
    """False if there was none. Raises `errors.ConfigError` when it cannot be removed."""
    path = profile_path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as e:
        raise ConfigError(f"cannot remove the profile {path}: {e.strerror}") from e
    return True


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` in one step, mode 0600; a crash leaves the old file or the new one. Raises OSError.

    Bytes that are not UTF-8 are surrogate-escaped in `text`.
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(text)
            f.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


# --- merging ------------------------------------------------------------------------------------------------------


def check_root(text: str) -> str:
    """A path without needless slashes, from the login directory if it is relative or begins with `~/`.

    Raises `errors.UsageError`.
    """
    if not text or "\0" in text or re.match("~[^/]", text):
        raise UsageError(f"the remote root {text!r} is not a path; write it like {DEFAULT_ROOT}")
    # ".." stays: behind a symbolic link it does not mean what it seems to
    parts = [part for part in text.removeprefix("~").split("/") if part not in ("", ".")]
    absolute = text.startswith("/")
    return "/" * absolute + "/".join(parts) or "."


def _size(value: object) -> int:
    # a program may give bytes
    return _large_enough(value) if isinstance(value, int) else parse_cache_size(str(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{value!r} is neither true nor false")
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UsageError(f"{value!r} is not a path")
    return Path(os.path.abspath(os.path.expanduser(value)))


def _transport(value: object) -> TransportName:
    if value not in TRANSPORTS:
        raise UsageError(f"{value!r} is not a transport; there are {' and '.join(TRANSPORTS)}")
    return value


def _via(value: object) -> ViaName:
    if value not in VIAS:
        raise UsageError(f"{value!r} is no way to mount; there are {' and '.join(VIAS)}")
    return value


def _ttl(value: object) -> float:
    return parse_duration(str(value))


def _timeout(value: object) -> float:
    if (seconds := parse_duration(str(value))) <= 0:
        raise UsageError("the timeout must be longer than nothing; write it like 30s")
    return seconds


_CONVERT: Mapping[str, Callable[[object], object]] = {
    "cache_dir": _path,
    "cache_size": _size,
    "timeout": _timeout,
    "ttl": _ttl,
    "transport": _transport,
    "via": _via,
    "accept_new_host_key": _flag,
    "allow_other": _flag,
    "metered": _flag,
    "log_file": _path,
}
"""What a profile's `options` may hold."""


def resolve(options: Mapping[str, object]) -> Settings:
    """Merge what was given (command line or environment) with the profile and the defaults.

    `options` go by their names in `Settings`, except `ssh` (the line, as text or as words) and `profile`; None stands
    for "not given". With `ssh` and without `profile` no profile takes part. Raises `errors.UsageError` and
    `errors.ConfigError`.
    """
    given = {key: value for key, value in options.items() if value is not None}
    ssh = given.pop("ssh", None)
    name = given.pop("profile", None)
    profile: Profile | None = None
    if name is not None or ssh is None:
        profile = load_profile(str(name or DEFAULT_PROFILE))
        if profile is None and ssh is None:
            raise no_profile(str(name or DEFAULT_PROFILE))
    if ssh is not None:
        address = Address.parse(cast("str | list[str]", ssh))
    else:
        assert profile is not None
        address = profile.address
    root = given.pop("remote_root", None) or (profile.remote_root if profile else DEFAULT_ROOT)
    values: dict[str, object] = {"cache_dir": cache_dir(), **(profile.options if profile else {}), **given}
    values = {key: _CONVERT[key](value) if key in _CONVERT else value for key, value in values.items()}
    root = check_root(str(root))
    return Settings(
        address=address,
        profile_name=str(name or DEFAULT_PROFILE) if profile or name else None,
        identity=identity(profile, address, root),
        remote_root=root,
        known_hosts=config_dir() / "known_hosts",
        **values,  # type: ignore[arg-type]
    )


def cache_place(options: Mapping[str, object]) -> tuple[Path, int]:
    """The cache's directory and its limit in bytes, merged as `resolve` does, for commands that need no server.

    The default profile may be missing, one that was named may not. Raises `errors.UsageError` and `errors.ConfigError`.
    """
    name = options.get("profile")
    profile = load_profile(str(name or DEFAULT_PROFILE))
    if profile is None and name is not None:
        raise no_profile(str(name))
    saved = profile.options if profile is not None else {}
    directory, size = (options.get(key) or saved.get(key) for key in ("cache_dir", "cache_size"))
    return _path(directory or cache_dir()), DEFAULT_CACHE_SIZE if size is None else _size(size)


def identity(profile: Profile | None, address: Address, root: str) -> str:
    """What the cache goes by: never the port, which each container has anew."""
    if profile is not None:
        return f"profile:{profile.id}:{root}"
    return f"{address.user or local_user()}@{address.host.lower()}:{root}"


def local_user() -> str:
    """This user's name; the number where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return str(os.getuid())
