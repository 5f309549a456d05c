"""What blocks and their files are called.

A block's key is `b:LINEAGE:INDEX` (hex, decimal). A block file is `blocks/EPOCH/NNN/LINEAGE-FIRST-COUNTER`: it holds
the block FIRST of that lineage and perhaps some that follow it without a gap, a run, `RUN` blocks at most.
"""

from __future__ import annotations

import re

RUN = 8
"""Blocks that one file can hold. Making a file costs more than writing a megabyte to it: ext4 passes over each inode
that was deleted lately."""

_NAME = re.compile(r"blocks/[0-9a-f]{16}/[0-9a-f]{3,8}/([0-9a-f]{32})-([0-9]{1,12})-[0-9a-f]{1,12}")
_KEY = re.compile(r"b:([0-9a-f]{32}):([0-9]{1,12})")


def block_key(lineage: bytes, index: int) -> str:
    return f"b:{lineage.hex()}:{index}"


def parse_key(key: object) -> tuple[bytes, int] | None:
    """The lineage and index of a block's key; None for anything else."""
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    return (bytes.fromhex(match[1]), int(match[2])) if match else None


def file_name(epoch: str, directory: str, lineage: bytes, first: int, counter: int) -> str:
    """The name of a block file, below the cache directory; `counter` makes it new."""
    return f"blocks/{epoch}/{directory}/{lineage.hex()}-{first}-{counter:x}"


def is_block_name(name: object) -> bool:
    """Whether a row's file name is one that we make: relative, and without a way out of the cache
    directory."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def keys_in(name: object) -> list[str]:
    """The keys of all blocks that may be in a file; none for a name that we do not make."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    return [f"b:{match[1]}:{int(match[2]) + place}" for place in range(RUN)] if match else []


def place_in(name: str, index: int) -> int | None:
    """How many blocks are before block `index` in its file; None when it cannot be in that file."""
    match = _NAME.fullmatch(name)
    place = index - int(match[2]) if match else -1
    return place if 0 <= place < RUN else None
