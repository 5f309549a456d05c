"""What a cache directory holds, by server and experiment. Reads the disk; any thread but the event loop's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vfs.cache.disk import DiskCache
from vfs.files.records import FileRecord, identity_of


class Origin(NamedTuple):
    """Where a lineage belongs: the identity of a server's root (see `settings.identity`), and the path below it."""

    identity: str
    path: bytes | None
    """None where the record does not tell."""

    @property
    def experiment(self) -> bytes | None:
        """The first directory of the path; empty for a file in the root itself."""
        if self.path is None:
            return None
        return self.path.partition(b"/")[0] if b"/" in self.path else b""


@dataclass(slots=True)
class Holding:
    """What is cached of one experiment of one server; sizes in bytes."""

    identity: str | None
    experiment: bytes | None
    """Empty: files in the root itself. None, here and as `identity`: files that no record names."""
    files: int = 0
    size: int = 0
    pinned: int = 0


def places(disk: DiskCache) -> dict[bytes, Origin]:
    """Where each lineage that has a record belongs."""
    found = {}
    for key, value in disk.records("f:"):
        known = FileRecord.whereabouts(value)
        if known is not None:
            lineage, path = known
            found[lineage] = Origin(identity_of(key), path)
    return found


def holdings(disk: DiskCache) -> list[Holding]:
    """What there is of each experiment, the largest of each server first. Raises CacheUnusable."""
    known = places(disk)
    pins = {key[2:] for key, _ in disk.records("p:")}
    found: dict[tuple[str | None, bytes | None], Holding] = {}
    for lineage, (_, size) in disk.entries().items():
        place = known.get(lineage)
        where = (place.identity, place.experiment) if place is not None else (None, None)
        holding = found.get(where)
        if holding is None:
            holding = found[where] = Holding(*where)
        holding.files += 1
        holding.size += size
        holding.pinned += size if lineage.hex() in pins else 0
    return sorted(found.values(), key=lambda one: (one.identity is None, one.identity or "", -one.size))
