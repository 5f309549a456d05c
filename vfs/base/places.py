"""Where this user's files are kept, and the user's name. Any thread."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from vfs.base.errors import NoPlace


def config_dir() -> Path:
    """Profiles and our known_hosts (`$XDG_CONFIG_HOME/artisync`)."""
    return _found(platformdirs.user_config_path)


def cache_dir() -> Path:
    """The block cache, unless `--cache-dir` names another (`$XDG_CACHE_HOME/artisync`)."""
    return _found(platformdirs.user_cache_path)


def state_dir() -> Path:
    """Logs, and control sockets where there is no runtime directory (`$XDG_STATE_HOME/artisync`)."""
    return _found(platformdirs.user_state_path)


def _found(place: Callable[..., Path]) -> Path:
    """Raises NoPlace: a container's user id may have no home directory."""
    try:
        found = place("artisync", appauthor=False)
    except RuntimeError as error:
        raise NoPlace("this user has no home directory") from error
    if not found.is_absolute():  # as older versions of platformdirs answer then
        raise NoPlace(f"the home directory is not an absolute path: {found}")
    return found


def local_user() -> str:
    """This user's name; the number where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return str(os.getuid())
