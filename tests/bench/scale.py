"""How large the cases are: as they are published, and smaller ones for a quick look and for a test."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes in bytes, times in seconds. `limit`: the most that one measurement may take."""

    loopback: int = 512 * MIB
    wan: int = 256 * MIB
    wan_seconds: float = 8.0
    """A reader on a long link that is not done by then is judged by what it has read."""
    tensors: int = 1000
    """Of 256 KiB each."""
    large_tensor: int = 2 * MIB
    part: int = 256 * MIB
    """A file of which a part is read."""
    entries: int = 10_000
    experiments: int = 200
    """Of seven files in three directories each."""
    runs: int = 50
    many_runs: int = 200
    steps: int = 300
    readers: int = 20
    reader_size: int = 16 * MIB
    random_size: int = 512 * MIB
    random_reads: int = 100
    memory: int = 4 * GIB
    memory_seconds: float = 45.0
    idle: float = 60.0
    small_files: int = 500
    images: int = 200
    large_copy: int = 2 * GIB
    limit: float = 120.0


FULL = Scale()
QUICK = Scale(
    loopback=128 * MIB,
    wan=64 * MIB,
    wan_seconds=4.0,
    tensors=200,
    part=32 * MIB,
    entries=1000,
    experiments=20,
    runs=10,
    many_runs=20,
    readers=8,
    reader_size=4 * MIB,
    random_size=64 * MIB,
    random_reads=20,
    memory=GIB // 2,
    memory_seconds=8.0,
    idle=5.0,
    small_files=100,
    large_copy=128 * MIB,
    limit=10.0,
)
TINY = Scale(
    loopback=MIB,
    wan=MIB,
    tensors=4,
    large_tensor=MIB // 2,
    part=2 * MIB,
    entries=20,
    experiments=2,
    runs=1,
    many_runs=2,
    steps=2,
    random_size=2 * MIB,
    random_reads=2,
    small_files=20,
    images=6,
    large_copy=2 * MIB,
)


def size(count: int) -> str:
    """Bytes in words: 256 MiB, 4 GiB."""
    return f"{count // GIB} GiB" if count % GIB == 0 else f"{count / MIB:g} MiB"
