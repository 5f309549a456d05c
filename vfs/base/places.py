"""Where this user's files are kept, and the user's name. Any thread."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import platformdirs


def config_dir() -> Path:
    """Profiles and our known_hosts (`$XDG_CONFIG_HOME/artisync`)."""
    return platformdirs.user_config_path("artisync", appauthor=False)


def cache_dir() -> Path:
    """The block cache, unless `--cache-dir` names another (`$XDG_CACHE_HOME/artisync`)."""
    return platformdirs.user_cache_path("artisync", appauthor=False)


def state_dir() -> Path:
    """Logs, and control sockets where there is no runtime directory (`$XDG_STATE_HOME/artisync`)."""
    return platformdirs.user_state_path("artisync", appauthor=False)


def local_user() -> str:
    """This user's name; the number where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return str(os.getuid())
