"""What a cache directory holds, by server and experiment. Reads the disk; any thread but the event loop's."""

from __future__ import annotations

from dataclasses import dataclass

from vfs.cache.ledger import Ledger
from vfs.files.records import FileRecord, identity_of


@dataclass(slots=True)
class Holding:
    """What is cached of one experiment of one server; sizes in bytes of the disk."""

    identity: str | None
    experiment: bytes | None
    """Empty: files in the root itself. None, here and as `identity`: files that no record names."""
    files: int = 0
    size: int = 0
    pinned: int = 0


def places(ledger: Ledger) -> dict[bytes, bytes]:
    """The path, below its server's root, of each lineage that has a record."""
    return dict(filter(None, (FileRecord.whereabouts(value) for _, value in ledger.records.scan("f:"))))


def holdings(ledger: Ledger) -> list[Holding]:
    """What there is of each experiment, the largest of each server first."""
    sizes = ledger.records.sizes()
    pins = {key[2:] for key, _ in ledger.records.scan("p:")}
    found: dict[tuple[str | None, bytes | None], Holding] = {}

    def add(identity: str | None, experiment: bytes | None, lineage: bytes, size: int) -> None:
        holding = found.get((identity, experiment))
        if holding is None:
            holding = found[identity, experiment] = Holding(identity, experiment)
        holding.files += 1
        holding.size += size
        holding.pinned += size if lineage.hex() in pins else 0

    for key, value in sorted(ledger.records.scan("f:")):
        lineage, path = FileRecord.whereabouts(value) or (b"", b"")
        size = sizes.pop(lineage, None)
        if size is not None:
            add(identity_of(key), _experiment(path), lineage, size)
    for lineage, size in sizes.items():
        add(None, None, lineage, size)
    return sorted(found.values(), key=lambda one: (one.identity is None, one.identity or "", -one.size))


def _experiment(path: bytes) -> bytes:
    """The first directory of a path; empty for a file in the root itself."""
    first, slash, _ = path.partition(b"/")
    return first if slash else b""
