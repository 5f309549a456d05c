"""The commands by which the system's NFS client mounts and unmounts an export: pure.

Sources: nfs(5) and mount(8) of Linux; mount_nfs(8) and umount(8) of macOS.
"""

from __future__ import annotations

import math
from pathlib import Path

from vfs.base.mount_table import HOST
from vfs.frontends.mountpoint import MOUNT_NFS

SPARE_SECONDS = 5.0
"""How much longer the client waits than a call may take, so that the server's error comes first."""
MOST_CACHED = 60.0
"""Seconds for which a client keeps attributes at most."""


def cached_seconds(ttl: float) -> int:
    """The part of the TTL, in whole seconds, for which the client keeps attributes. The tree has the rest."""
    return int(min(ttl / 2, MOST_CACHED))


def client_options(timeout: float, ttl: float, system: str) -> list[str]:
    """The options that say how the client behaves; `system` as `sys.platform`.

    It asks again once within the time of a call, which costs nothing, and gives up after it.
    """
    tenths = math.ceil((timeout + SPARE_SECONDS) / 2 * 10)
    seconds = cached_seconds(ttl)
    common = ["soft", f"timeo={tenths}", "retrans=1", "rsize=1048576"]
    if system == "darwin":
        # without nonegnamecache a name that was absent stays so for up to a minute
        dead = math.ceil(timeout + SPARE_SECONDS)
        limits = [f"{name}={seconds}" for name in ("acregmin", "acregmax", "acdirmin", "acdirmax")]
        times = limits if seconds else ["noac"]
        return ["vers=3", "tcp", "nolocks", *common, "intr", f"deadtimeout={dead}", *times, "nonegnamecache"]
    times = [f"actimeo={seconds}"] if seconds else ["noac"]
    return ["vers=3", "proto=tcp", "nolock", *common, *times, "lookupcache=positive"]


def mount_command(
    port: int, path: str, mountpoint: Path, *, timeout: float, ttl: float, system: str
) -> list[str]:
    """The words of the command that mounts the export at `path` of the server at `port`."""
    ports = [f"port={port}", f"mountport={port}"]
    options = [*client_options(timeout, ttl, system), *ports]
    source = f"{HOST}:{path}"
    if system == "darwin":
        options = ["ro", "nosuid", "nodev", "noatime", "nobrowse", *options]
        return [MOUNT_NFS, "-o", ",".join(options), source, str(mountpoint)]
    # -i: the kernel itself asks for the root's handle, so that no helper of nfs-common is needed
    kernel = [f"addr={HOST}", f"mountaddr={HOST}", "mountproto=tcp", "mountvers=3"]
    options = ["ro", "nosuid", "nodev", "noatime", *options, *kernel]
    return ["mount", "-i", "-t", "nfs", "-o", ",".join(options), source, str(mountpoint)]
