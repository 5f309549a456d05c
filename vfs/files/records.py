"""What the cache remembers of the tree between mounts, as bytes under names: files and listings. Pure.

f:IDENTITY:…   a file: its version lineage, `FileRecord`
d:IDENTITY:…   a directory: its entries, `dump_listing`, of a large one in several lines
pin:IDENTITY:… a path is pinned, whatever is there; its value is the path below the root
p:LINEAGE      the blocks of a lineage are not evicted; its value is the name of the pin
r:IDENTITY     the real path of the root
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vfs.base.file_version import Version
from vfs.remote.api import Attributes


def file_key(identity: str, path: bytes) -> str:
    """The name of a file's record; `path` is the absolute one on the server."""
    return f"f:{identity}:{_digest(path)}"


def listing_key(identity: str, path: bytes) -> str:
    """The name of a directory's record; `path` is relative to the root, which is empty."""
    return f"d:{identity}:{_digest(path or b'.')}"


def pin_key(identity: str, path: bytes) -> str:
    """The name of a pin; `path` is relative to the root, since the root may lie elsewhere on another host."""
    return f"{pins_of(identity)}{_digest(path)}"


def pins_of(identity: str) -> str:
    """How the names of all pins below a root begin."""
    return f"pin:{identity}:"


def identity_of(key: str) -> str:
    """The identity in the name of a file's or a directory's record."""
    return key[2:].rpartition(":")[0]


def _digest(path: bytes) -> str:
    return hashlib.blake2b(path, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the cache remembers of a file: its lineage, the version it stands for, the host it was on, and where it is."""

    lineage: bytes
    version: Version
    host: str
    path: bytes
    """Relative to the root."""

    def dump(self) -> bytes:
        fields = {"lineage": self.lineage.hex(), "size": self.version.size, "mtime": self.version.mtime}
        fields |= {"host": self.host, "path": self.path.decode(errors="surrogateescape")}
        return json.dumps(fields).encode()

    @classmethod
    def load(cls, data: bytes | None) -> FileRecord | None:
        """None where there is no record, or none that can be understood."""
        try:
            fields = json.loads(str(data or b"", "ascii"))
            version = Version(int(fields["size"]), int(fields["mtime"]))
            return cls(bytes.fromhex(fields["lineage"]), version, str(fields["host"]), _path(fields))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @staticmethod
    def whereabouts(data: bytes) -> tuple[bytes, bytes] | None:
        """The lineage and the path alone, in half the time: a cache may have 100,000 records."""
        try:
            fields, _ = _decode(str(data, "ascii"))
            return bytes.fromhex(fields["lineage"]), _path(fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


_decode = json.JSONDecoder().raw_decode


def _path(fields: dict[str, Any]) -> bytes:
    path: str = fields["path"]
    return path.encode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """One entry of a directory as the cache remembers it."""

    name: bytes
    attributes: Attributes
    follow: bool
    """Shown in place of a symlink that leaves the root."""
    target: bytes
    """The text of a shown symlink."""


def dump_listing(entries: Iterable[KnownEntry]) -> bytes:
    """Entries of a directory as a line for the cache."""
    rows = [
        [
            entry.name.decode(errors="surrogateescape"),
            entry.attributes.mode,
            entry.attributes.size,
            entry.attributes.mtime,
            int(entry.follow),
            entry.target.decode(errors="surrogateescape"),
        ]
        for entry in entries
    ]
    return json.dumps(rows).encode()


def load_listing(data: bytes | None) -> list[KnownEntry] | None:
    """The reverse of `dump_listing`, of one line or several; None where there is none that can be understood."""
    try:
        return [
            KnownEntry(
                name.encode(errors="surrogateescape"),
                Attributes(int(mode), int(size), int(mtime)),
                bool(follow),
                target.encode(errors="surrogateescape"),
            )
            for line in (data or b"null").split(b"\n")
            for name, mode, size, mtime, follow, target in json.loads(line)
        ]
    except (ValueError, TypeError, AttributeError):
        return None
