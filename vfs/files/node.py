"""One inode of the tree: a directory, a symlink, or one version lineage of a file.

Only the namespace and its callers make and change nodes, on the event loop's thread.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from enum import Enum

from vfs.base.file_version import Version
from vfs.fetch.content import Content
from vfs.remote.api import Attributes

NEVER = float("-inf")
LONG_AGO = -1e12
"""The age of what an earlier mount left: older than any TTL."""
UNKNOWN = b""
"""Where a symlink leads whose entry an earlier mount left."""


class Kind(Enum):
    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "link"
    OTHER = "other"
    """A FIFO, a socket or a device: shown, never opened."""


def kind_of(mode: int) -> Kind:
    """The kind in the mode bits of a server's answer."""
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    if stat.S_ISLNK(mode):
        return Kind.SYMLINK
    return Kind.FILE if stat.S_ISREG(mode) else Kind.OTHER


def version_of(attributes: Attributes) -> Version:
    """The version in a file's attributes."""
    return Version(attributes.size, attributes.mtime)


@dataclass(slots=True, eq=False, repr=False, weakref_slot=True)
class Node:
    """An inode. Times are the event loop's; an answer has the time at which it was asked for."""

    id: int
    parent: Node | None
    name: bytes
    path: bytes
    attributes: Attributes
    checked: float
    """When these attributes were last confirmed."""
    kind: Kind = field(init=False)
    """It never changes: a name of another kind is another node."""
    ino: int = field(init=False)
    since: float = field(init=False)
    """When the first answer with these attributes came."""
    settled: bool = False
    pending: Attributes | None = None
    """Newer attributes that may be growth; the bytes have not been compared yet."""
    stale: bool = False
    """Replaced or removed on the server."""
    lookups: int = 0
    """References that clients (the kernel) hold."""
    follow: bool = False
    """Shown in place of a symlink that leaves the root: asked for by STAT."""
    real: bytes | None = None
    """Where that symlink leads."""
    target: bytes = b""
    """The text of a symlink as it is shown."""
    children: dict[bytes, Node] = field(default_factory=dict)
    changed: bool = False
    """The children differ from the listing that the cache keeps."""
    changes: int = 0
    """How often a name in it came, went, or came to stand for another node."""
    listed: float = NEVER
    """When the whole directory was last listed."""
    answered: int = 0
    """Lookups that the last listing answered."""
    missed: tuple[bytes, float] = (b"", NEVER)
    """The name in it that last had to be asked for, and when."""
    lacks: tuple[bytes, float] = (b"", NEVER)
    """The name that was last asked for alone and is not in it, and when it was asked for."""
    in_vain: bool = False
    """It was listed again ahead of programs, and that has answered nothing yet."""
    waiters: int = 0
    """Programs that wait for its listing now."""
    large: bool = False
    """Too many names to list it while no program waits."""
    slow: bool = False
    """Listing it takes longer than a TTL, or was refused: its names are asked for one by one."""
    asked: list[float] = field(default_factory=list)
    """When names in it were asked for one by one, within the last TTL."""
    content: Content | None = None
    resized: bool = False
    """Its size differs from what clients were told, and no byte was compared: clients would end the file at the old size."""
    opened_early: bool = False
    """It was opened on the server once, before a program opened it."""

    def __post_init__(self) -> None:
        self.kind = kind_of(self.attributes.mode)
        self.ino = _ino(self.path, self.attributes)
        self.since = self.checked

    def ancestors(self) -> list[Node]:
        """The directories above it, the root first."""
        above, node = [], self.parent
        while node is not None:
            above.append(node)
            node = node.parent
        return above[::-1]

    def served(self) -> None:
        """Its listing answered a lookup."""
        self.answered += 1
        self.in_vain = False

    @property
    def depth(self) -> int:
        """Directories above it."""
        return len(self.ancestors())

    @property
    def relative(self) -> bytes:
        """Its path below the root; empty for the root."""
        return b"/".join(node.name for node in (*self.ancestors()[1:], self))

    @property
    def version(self) -> Version:
        return version_of(self.attributes)

    @property
    def latest(self) -> Version:
        """What the server said last, though it may be growth whose bytes have not been compared yet."""
        return version_of(self.pending or self.attributes)

    def __repr__(self) -> str:
        flags = "".join(f" {name}" for name in ("stale", "settled", "pending") if getattr(self, name))
        return f"<Node {self.id} {self.path!r} {self.kind.value} {self.version}{flags}>"


def _ino(path: bytes, attributes: Attributes) -> int:
    """An inode number: the same for the same path and, for a file, the version that its lineage began with."""
    birth = b"" if stat.S_ISDIR(attributes.mode) else b"%d.%d" % (attributes.size, attributes.mtime)
    digest = hashlib.blake2b(path + b"\0" + birth, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) | 1 << 8  # never a small number: 0 and 1 have meanings


def common(nodes: list[Node]) -> Node:
    """The lowest directory that all of `nodes` are in, or are."""
    paths = [[*node.ancestors(), node] for node in nodes]
    common = paths[0][0]
    for level in zip(*paths, strict=False):
        if any(node is not level[0] for node in level):
            break
        common = level[0]
    return common
