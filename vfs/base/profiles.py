"""The saved servers: a JSON file each. Any thread."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vfs.base import paths
from vfs.base.address import Address
from vfs.base.errors import ConfigError, NoServerYet, StateUnusable, UsageError
from vfs.base.option_values import CONVERT, DEFAULT_ROOT, check_root
from vfs.base.places import config_dir

DEFAULT_PROFILE = "default"


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
            raise ConfigError(f"the profile {path} is corrupt: {key!r} should be a string")
        return value

    options = data.get("options", {})
    if not isinstance(options, dict):
        raise ConfigError(f"the profile {path} is corrupt: 'options' should be a JSON object")
    if unknown := sorted(options.keys() - CONVERT.keys()):
        raise ConfigError(f"the profile {path} has an unknown option: {unknown[0]!r}")
    try:
        address = Address.parse(text("ssh"))
        root = check_root(text("remote_root"))
        for key, value in options.items():
            CONVERT[key](value)
    except UsageError as e:
        raise ConfigError(f"the profile {path} is corrupt: {e}") from e
    return Profile(name=name, address=address, remote_root=root, options=options, id=text("id"))


def no_profile(name: str) -> ConfigError:
    """The error that there is no profile of that name, and which there are."""
    known = ", ".join(profile_names())
    if name == DEFAULT_PROFILE and not known:
        return NoServerYet("no server yet")
    return ConfigError(f"there is no profile {name!r}" + (f" (saved: {known})" if known else ""))


def save_profile(profile: Profile) -> Path:
    """Write it atomically, for the user's eyes only. Raises `errors.StateUnusable` when that fails."""
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
        paths.write_atomically(path, json.dumps(data, indent=2, default=str) + "\n")
    except OSError as e:
        raise StateUnusable(f"cannot write the profile {path}: {e.strerror}") from e
    return path


def remove_profile(name: str) -> bool:
    """False if there was none. Raises `errors.StateUnusable` when it cannot be removed."""
    path = profile_path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as e:
        raise StateUnusable(f"cannot remove the profile {path}: {e.strerror}") from e
    return True
