"""What one command works with, merged from what was given, the profile and the defaults.

A value comes from the first place that has one: the command line, `ARTISYNC_<OPTION>`, the profile, the default.
Any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vfs.base.address import Address
from vfs.base.option_values import (
    CONVERT,
    DEFAULT_ROOT,
    DEFAULT_VIA,
    TransportName,
    ViaName,
    as_cache_size,
    as_path,
    check_root,
)
from vfs.base.places import cache_dir, config_dir, local_user
from vfs.base.profiles import DEFAULT_PROFILE, Profile, load_profile, no_profile

DEFAULT_CACHE_SIZE = 20 << 30
DEFAULT_TIMEOUT = 30.0
DEFAULT_TTL = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one command works with. Times in seconds, sizes in bytes, paths absolute."""

    address: Address
    profile_name: str | None = None
    identity: str
    """Names the cache's content: it stays when a profile moves to a new container."""
    remote_root: str = DEFAULT_ROOT
    """Path on the server, absolute or relative to the login directory; bytes that are not UTF-8 are surrogate-escaped, see `root`."""
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

    @property
    def root(self) -> bytes:
        """`remote_root` as it goes over the wire."""
        return os.fsencode(self.remote_root)


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
    values = {key: CONVERT[key](value) if key in CONVERT else value for key, value in values.items()}
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
    return as_path(directory or cache_dir()), DEFAULT_CACHE_SIZE if size is None else as_cache_size(size)


def identity(profile: Profile | None, address: Address, root: str) -> str:
    """The name of the tree in the cache. The port is no part of it: each container has a new one."""
    if profile is not None:
        return f"profile:{profile.id}:{root}"
    return f"{address.user or local_user()}@{address.host.lower()}:{root}"
