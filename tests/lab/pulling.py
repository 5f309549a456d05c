"""Pulls from a server in memory into a directory of this machine."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.memory_stack import MemoryStack
from vfs.base.progress import Progress
from vfs.commands.pull import Order, Outcome, Pull
from vfs.commands.pull_dest import PullDirectory
from vfs.commands.pull_journal import Pulled


async def pull(
    stack: MemoryStack, place: Path, *names: str, overwrite: bool = False, only: frozenset[str] = frozenset()
) -> Outcome:
    """One run of `artisync pull`, of all experiments without `names`."""
    with PullDirectory(place) as destination, Pulled(place) as pulled:
        order = Order(str(place), names or None, tuple(only), overwrite=overwrite)
        work = Pull(stack, order, destination, pulled, Progress(), patience=10)  # type: ignore[arg-type]
        await work.fetch(await work.plan())
        return work.outcome


@dataclass
class Copy:
    """What is in a directory, by names relative to it."""

    directories: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def copy_at(place: Path) -> Copy:
    """Read it, without following a link."""
    found = Copy()
    for top, directories, files in os.walk(place):
        for name in (*directories, *files):
            path = Path(top, name)
            relative = str(path.relative_to(place))
            if path.is_symlink():
                found.links[relative] = os.readlink(path)
            elif stat.S_ISDIR(path.lstat().st_mode):
                found.directories.add(relative)
            else:
                found.files[relative] = path.read_bytes()
    return found
