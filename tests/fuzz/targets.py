"""What is fuzzed: for each target some right inputs to begin with, and what may come of any other.

A target returns, or raises what breaks a rule: any exception that is not the parser's own, more than `SECONDS` of
processor time, or a process of more than `MEMORY` bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.unit.fetch.simulated_reads import LongLink
from tests.unit.formats import made_files, test_describe
from tests.unit.remote.wire_streams import ANSWERS, Expectation, Fed, made
from vfs.base.errors import UnreadableFormat
from vfs.formats import verdict_for
from vfs.formats.api import Misfit
from vfs.formats.checkpoints import outline
from vfs.formats.describe import inspect_file
from vfs.formats.limits import Limits, TooLarge
from vfs.formats.pickles import Stream, load
from vfs.formats.rebuild import rebuild
from vfs.formats.report import Report, render
from vfs.remote.sftp.wire import PacketType

SECONDS = 3.0
"""Of processor time for one input: the two that `inspect` may take, and room."""
MEMORY = 512 << 20
"""Bytes of the whole process; `inspect` alone may take half of it."""
STEP = 0.25
"""Seconds of processor time for one step of the hints, which run on the event loop; with room."""


class RuleBroken(AssertionError):
    """An input that took too much."""


@dataclass(frozen=True, slots=True)
class Target:
    """`seeds` are right inputs; `run` takes any."""

    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], None]


def check(target: Target, data: bytes) -> None:
    """Run one input. Raises what breaks a rule."""
    began = time.thread_time()
    target.run(data)
    took = time.thread_time() - began
    if took > SECONDS:
        raise RuleBroken(f"{took:.1f} s of processor time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if peak > MEMORY:
        raise RuleBroken(f"a process of {peak} bytes")


def _inspect(name: bytes) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        def read(offset: int, length: int) -> bytes:
            return data[offset : offset + length]

        try:
            # the shards of a distributed checkpoint are there, and hold anything
            report = inspect_file(name, len(data), read, lambda name: (1 << 40, read))
        except UnreadableFormat:
            return
        json.dumps(report.as_json(), allow_nan=False)
        render(report)

    return run


def _hints(name: bytes) -> Callable[[bytes], None]:
    """The hints of an open file and the verdict on it, each step of which must be short."""

    def run(data: bytes) -> None:
        began = time.thread_time()
        asked = verdict_for(name, len(data))
        while (wanted := asked.wanted) is not None:
            began = _short(began)
            asked.tell(data[wanted.start : wanted.end])
        padded = data + bytes(70_000)  # smaller files have no hints
        for file in (padded, padded + data):
            link = LongLink(name, file)
            for offset in (0, len(file) - 4096, *range(0, min(len(file), 1 << 20), 65_536)):
                began = _short(began)
                link.read(max(0, offset), 4096)

    return run


def _short(began: float) -> float:
    now = time.thread_time()
    if now - began > STEP:
        raise RuleBroken(f"a step of {now - began:.2f} s on the event loop")
    return now


def _pickle(data: bytes) -> None:
    limits = Limits(time.thread_time)
    try:
        outline(
            Report("", len(data), "pickle"),
            load(
                Stream(lambda offset, length: data[offset : offset + length], 0, len(data)), rebuild, limits
            ),
            limits,
        )
    except (Misfit, TooLarge):
        pass


def _decoder(data: bytes) -> None:
    """The first bytes say in what pieces the others come."""
    pieces = [n + 1 for n in data[:4]] or [1]

    def sizes() -> Iterator[int]:
        while True:
            yield from pieces

    expected = [
        Expectation(-1, PacketType.VERSION),
        *(Expectation(i, kind, 100) for i, kind in enumerate(ANSWERS)),
    ]
    fed = Fed(expected)
    fed.feed(data[4:], sizes().__next__)
    fed.check()


def _files() -> list[bytes]:
    return [make()[1] for make in test_describe.FILES]


def _pickles() -> list[bytes]:
    return [
        made_files.dumps({"w": made_files.tensor("0", (2, 3)), "epoch": 1, "many": list(range(30))}),
        made_files.torch_archive(3, 100, {"epoch": 1}),
    ]


def _streams() -> list[bytes]:
    import random

    return [
        b"\x04\x0d\xff\x01" + b"".join(answer for _, answer in made(random.Random(seed), 6))
        for seed in range(20)
    ]


_NAMES = {
    "zip": b"m.pt",
    "safetensors": b"m.safetensors",
    "events": b"events.out.tfevents.1.host",
    "npy": b"a.npy",
    "npz": b"a.npz",
    "parquet": b"t.parquet",
    "hdf5": b"a.h5",
    "distcp": b".metadata",
    "unnamed": b"x",
}

TARGETS: dict[str, Target] = {
    **{f"inspect-{kind}": Target(_files, _inspect(name)) for kind, name in _NAMES.items()},
    **{f"hints-{kind}": Target(_files, _hints(name)) for kind, name in _NAMES.items() if kind != "distcp"},
    "pickle": Target(_pickles, _pickle),
    "decoder": Target(_streams, _decoder),
}
