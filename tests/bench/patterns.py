"""Cases of how files are read: the first bytes, a little of much, here and there, beside a large read; all at RTT 50 ms."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import WIRE, Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import FAR_MS, big_file, far, opened
from tests.bench.results import Figure
from tests.bench.scale import Scale, size

STOP_MBIT = 400
_STILL_SECONDS = 2.0
"""How long what was asked for ahead may go on arriving when the reader has gone."""
_EACH = Figure("a read", "ms")
_WAIT = Figure("waits for", "ms")


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    count, large, random = scale.random_reads, size(scale.random_size), size(scale.large_copy)
    each = {"time": _EACH, "wire": WIRE}
    return [
        Case("first-bytes", "open a file and read its first 64 KiB", {"time": _WAIT}, _first, local=True),
        Case(
            "stop",
            f"read 1 MiB of {large}, then close; 400 Mbit/s",
            {"wire": WIRE},
            _stopped,
        ),
        Case(
            "beside",
            f"read a file of 4 KiB while {large} are read",
            {"time": _WAIT},
            _beside,
        ),
        *(
            Case(
                name,
                f"{count} reads of {piece >> 10} KiB {words}",
                each,
                partial(_reads, name, piece, length),
            )
            for name, piece, words, length in (
                ("scattered", 4 << 10, f"at random in {large}", scale.random_size),
                ("random", 128 << 10, f"at random in {random}", scale.large_copy),
                ("strided", 4 << 10, f"a MiB apart in {large}", scale.random_size),
                ("backward", 128 << 10, f"one before the other from the end of {large}", scale.random_size),
            )
        ),
        Case("bytes", "64 Ki reads of one byte", {"time": Figure("all", "ms")}, _bytes, local=True),
        Case(
            "threads",
            f"32 threads stat and read {scale.small_files} small files",
            {"time": Figure("all", "ms"), "wire": WIRE},
            _threads,
            local=True,
        ),
    ]


def _first(lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.random_size)
    return _program(lab, peer, original, "first", 64 << 10)


def _stopped(lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.random_size)

    def work(path: Path) -> float:
        seconds = lab.program("first", path, original, 1 << 20)["seconds"]
        time.sleep(_STILL_SECONDS)
        return seconds

    return far(lab, peer, original, work, STOP_MBIT)


def _reads(pattern: str, piece: int, length: int, lab: Lab, peer: Peer) -> Values:
    count = lab.scale.random_reads
    values = _program(lab, peer, big_file(lab, length), "pieces", pattern, count, piece)
    return {**values, "time": values["time"] / count}


def _beside(lab: Lab, peer: Peer) -> Values:
    small = lab.made("exp-beside/part", lambda path: content.random_file(path, 4096))
    original = big_file(lab, lab.scale.random_size)
    with lab.relay(FAR_MS) as relay, opened(lab, peer, lab.server(relay.port), original) as (view, path):
        beside = view.path / small.relative_to(lab.root)
        beside.stat()
        reader = lab.start("drain", path, 3.0)
        try:
            time.sleep(1.5)  # by then it is at full speed
            return {"time": lab.program("first", beside, small, 4096)["seconds"] * 1000}
        finally:
            lab.result(reader)


def _bytes(lab: Lab, peer: Peer) -> Values:
    original = lab.made("exp-bytes/part", lambda path: content.random_file(path, 64 << 10))
    return _program(lab, peer, original, "singly")


def _threads(lab: Lab, peer: Peer) -> Values:
    count = lab.scale.small_files
    place = lab.made("exp-small", lambda path: content.small_files(path, count))
    return _program(lab, peer, place, "together")


def _program(lab: Lab, peer: Peer, original: Path, name: str, *arguments: object) -> Values:
    """Milliseconds of a program, and what came over the link for it."""
    return far(
        lab,
        peer,
        original,
        lambda path: lab.program(name, path, original, *arguments)["seconds"] * 1000,
    )
