"""A node's attributes as programs see them: the same through the mount, NFS and fsspec. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vfs.files.node import Kind, Node

DIRECTORY_SIZE = 4096
"""The size of every directory."""


@dataclass(slots=True)
class Shown:
    """What `stat` shows. Size in bytes; mtime in Unix seconds, also shown as atime and ctime."""

    ino: int
    mode: int
    """Kind and permissions, without write bits; a symlink's stay as they are."""
    nlink: int
    """Always 1: with 2, `find` would take a directory for one without subdirectories."""
    uid: int
    gid: int
    size: int
    mtime: float


NOTHING = Shown(ino=0, mode=0, nlink=0, uid=0, gid=0, size=0, mtime=0)
"""What is shown of a name that is not there."""


def shown(node: Node, uid: int, gid: int) -> Shown:
    """The attributes of a node that belongs to this user and group."""
    attributes = node.attributes
    mode, size = attributes.mode & ~0o222, attributes.size
    if node.kind is Kind.DIRECTORY:
        size = DIRECTORY_SIZE
    elif node.kind is Kind.SYMLINK:
        mode, size = attributes.mode, len(node.target)
    return Shown(node.ino, mode, 1, uid, gid, size, attributes.mtime)
