"""`mount.artisync`: what mount(8) runs for a line of /etc/fstab. Source: mount(8), "EXTERNAL HELPERS".

default           /home/me/artifacts  artisync  noauto,user,_netdev                0 0
me@host:/shared   /mnt/artifacts      artisync  port=30022,allow_other,_netdev     0 0
"""

from __future__ import annotations

import getopt
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from vfs import cli
from vfs.base.errors import ArtisyncError, UsageError
from vfs.cli import console
from vfs.cli.options import real_path
from vfs.frontends import mountpoint as mountpoints

USAGE = "mount.artisync SOURCE DIRECTORY [-sfnv] [-o OPTIONS]"

VALUES = ("ttl", "timeout", "cache_size", "cache_dir", "transport", "via", "remote_root", "log_file")
FLAGS = ("allow_other", "accept_new_host_key", "metered")
"""Options of `artisync mount` that may stand in the fourth field."""
SSH = {"port": "-p", "identityfile": "-i"}
"""What goes into the ssh line of a server that is named by its host."""
IGNORED = re.compile(
    r"(no)?(auto|users?|exec|suid|dev|(dir|rel|strict)?atime|lazytime|iversion|mand)"
    r"|ro|rw|defaults|owner|group|nofail|_netdev|sync|async|dirsync|silent|loud|(user|comment)=.*|[xX]-.*"
)
"""Generic options, which the kernel or mount(8) deals with, or which mean nothing for a mount that is read-only."""

USAGE_ERROR, INTERRUPTED, FAILED = 1, 8, 32
"""Exit codes of mount(8)."""


@dataclass(frozen=True, slots=True)
class FstabLine:
    """What mount(8) asks for: the options and the place of `artisync mount`."""

    words: list[str]
    directory: str
    fake: bool = False
    """Only check that the line is valid."""


def main() -> NoReturn:
    """The entry point; exits with a code of mount(8)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Mount as the arguments say. Returns the exit code."""
    try:
        line = parse(arguments)
    except UsageError as error:
        console.tell(f"mount.artisync: {error}")
        return USAGE_ERROR
    if line.fake:
        return 0
    if _is_mounted(line.directory):
        console.tell(f"mount.artisync: {line.directory} is already mounted")
        return 0  # so that `mount -a` can be run again and again
    code = cli.run(["mount", *line.words, "--", line.directory])
    return {0: 0, 2: USAGE_ERROR, 130: INTERRUPTED}.get(code, FAILED)


def parse(arguments: Sequence[str]) -> FstabLine:
    """Parse the arguments of mount(8). Raises UsageError."""
    try:
        options, operands = getopt.gnu_getopt(list(arguments), "sfnvN:o:t:")
    except getopt.GetoptError as error:
        raise UsageError(f"{error}; usage: {USAGE}") from error
    if len(operands) != 2:
        raise UsageError(f"usage: {USAGE}")
    given = dict(options)
    if "-N" in given:
        raise UsageError("a mount in another namespace (-N) is not supported; enter it with nsenter(1)")
    source, directory = operands
    ours: list[str] = []
    ssh: list[str] = []
    for option in (part for key, value in options if key == "-o" for part in split(value)):
        name, equals, value = option.partition("=")
        key = name.replace("-", "_").lower()
        if key in VALUES and equals:
            ours.append(f"--{key.replace('_', '-')}={value}")
        elif key in FLAGS and not equals:
            ours.append(f"--{key.replace('_', '-')}")
        elif key in SSH and equals:
            ssh += [SSH[key], value]
        elif not IGNORED.fullmatch(option) and "-s" not in given:
            raise UsageError(f"unknown option {option!r} (-s ignores unknown options)")
    ours += ["-v"] if "-v" in given else []
    return FstabLine([*server(source, ssh), *ours], directory, "-f" in given)


def split(options: str) -> list[str]:
    """The options between commas; a value in double quotes may hold commas."""
    parts = re.findall(r'(?:[^,"]|"[^"]*"?)+', options)
    return [part.replace('"', "") for part in parts]


def server(source: str, ssh: Sequence[str]) -> list[str]:
    """The first field, `PROFILE`, `[USER@]HOST:[PATH]` or `ssh://[USER@]HOST[:PORT][/PATH]`, as options."""
    url = re.fullmatch(r"(ssh://[^/]*)(/.*)?", source)
    place = re.fullmatch(r"((?:[^@/]*@)?(?:\[[^\]]*\]|[^:/\[\]]+)):(/.*)?", source)
    if url is not None:
        host, root = url[1], url[2] if url[2] != "/" else None
    elif place is not None:
        host, root = re.sub(r"[\[\]]", "", place[1]), place[2]
    elif ssh:
        raise UsageError("port and IdentityFile go with a host; a profile has its own")
    else:
        return [f"--profile={source}"]
    return [f"--ssh={shlex.join(['ssh', *ssh, host])}", *([f"--remote-root={root}"] if root else [])]


def _is_mounted(directory: str) -> bool:
    """Whether a live artisync mount is there."""
    from vfs.control import register

    place = real_path(directory)
    try:
        return mountpoints.is_ours(place) and register.find(place) is not None
    except ArtisyncError:
        return False
