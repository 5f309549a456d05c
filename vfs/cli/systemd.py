"""A systemd user unit for a mount at login. Sources: systemd.unit(5), systemd.service(5), systemd.syntax(7)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vfs.base import reexec
from vfs.base.printable import printable
from vfs.base.settings import Settings

PLACES = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
"""Variables that say where profiles, cache and logs are; the user's manager does not have the shell's."""
NOT_KEPT = ("--print-systemd-unit", "--foreground")


def unit(settings: Settings, mountpoint: Path, words: Sequence[str]) -> str:
    """The text of the unit; `words` are options of `artisync mount` that hold in any directory."""
    name = f"artisync-{slug(mountpoint)}.service"
    variables = {key: os.environ[key] for key in PLACES if os.environ.get(key)}
    path = reexec.python_path()
    if path is not None:
        variables["PYTHONPATH"] = path
    kept = [word for word in words if word not in NOT_KEPT]
    start = reexec.words("mount", "--foreground", *kept, "--", str(mountpoint))
    stop = reexec.words("unmount", "--", str(mountpoint))
    of = settings.profile_name or settings.address.host
    about = printable(f"artisync: {of} at {mountpoint}")
    return "\n".join(
        [
            f"# Save this as ~/.config/systemd/user/{name}, then:",
            "#   systemctl --user daemon-reload",
            f"#   systemctl --user enable --now {name}",
            "# A key with a passphrase has to be in an agent that the manager knows:",
            "#   systemctl --user import-environment SSH_AUTH_SOCK",
            "[Unit]",
            f"Description={about.replace('%', '%%')}",
            "",
            "[Service]",
            "Type=exec",
            *(f"Environment={quoted(f'{key}={value}')}" for key, value in variables.items()),
            f"ExecStart={_command(start)}",
            f"ExecStop={_command(stop)}",
            "Restart=on-failure",
            "RestartPreventExitStatus=2",
            "RestartSec=30",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def slug(mountpoint: Path) -> str:
    """The mount point's last name, as far as it can be part of any file's or unit's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", mountpoint.name, flags=re.ASCII)[:60]


def _command(words: Sequence[str]) -> str:
    """A command line in which no variable is expanded (that is what the colon says)."""
    return ":" + " ".join(quoted(word) for word in words)


def quoted(word: str) -> str:
    """One word of a unit's line: quoted, without specifiers (%), whatever its bytes are."""
    return '"' + "".join(_escaped(character) for character in word) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "%":
        return "%%"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
