"""Cases of slow and of far links: what a program waits for, and what comes that nobody reads."""

from __future__ import annotations

import time
from functools import partial

from tests.bench import content
from tests.bench.case import Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import MB, big_file, opened
from tests.bench.results import Figure
from tests.bench.scale import Scale, size

LINKS = {
    "slow-1": (1, 60),
    "slow-5": (5, 60),
    "slow-20": (20, 60),
    "slow-100": (100, 60),
    "far-20": (20, 300),
}
"""Mbit/s, and the round trip in ms: a phone, a train, a hotel, a home; a satellite."""
STILL_SECONDS = 5.0
"""How long what was asked for ahead may go on arriving when the reader has gone."""
FULL_SECONDS = 6.0
"""After which a large read is at its full speed."""
SHARE_SECONDS = 6.0


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    figures = {
        "head": Figure("first 100 kB", "s"),
        "head_wire": Figure("received for them", "MB"),
        "middle": Figure("1 MiB in the middle", "s"),
        "middle_wire": Figure("received for it", "MB"),
        "share": Figure("large read", "of the link"),
        "beside": Figure("4 KiB beside it", "s"),
    }
    large = size(scale.random_size)
    return [
        Case(name, f"{mbit} Mbit/s, RTT {rtt} ms, of {large}", figures, partial(_slow, mbit, rtt))
        for name, (mbit, rtt) in LINKS.items()
    ]


def _slow(mbit: int, rtt: int, lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.random_size)
    small = lab.made("exp-beside/part", lambda path: content.random_file(path, 4096))
    middle = original.stat().st_size // 2
    values: dict[str, float] = {}
    for name, work in (("head", ("first", 100_000)), ("middle", ("part", middle, 1 << 20))):
        with (
            lab.relay(rtt, mbit) as relay,
            opened(lab, peer, lab.server(relay.port), original) as (_, path),
        ):
            before = relay.bytes_down()
            program, *arguments = work
            values[name] = lab.program(str(program), path, original, *arguments)["seconds"]
            time.sleep(STILL_SECONDS)
            values[f"{name}_wire"] = (relay.bytes_down() - before) / MB
    with (
        lab.relay(rtt, mbit) as relay,
        opened(lab, peer, lab.server(relay.port), original) as (view, path),
    ):
        reader = lab.start("drain", path, FULL_SECONDS + SHARE_SECONDS + 4)
        try:
            time.sleep(FULL_SECONDS)
            before = relay.bytes_down()
            time.sleep(SHARE_SECONDS)
            values["share"] = (relay.bytes_down() - before) / SHARE_SECONDS / (mbit / 8 * MB)
            beside = view.path / small.relative_to(lab.root)
            values["beside"] = lab.program("first", beside, small, 4096)["seconds"]
        finally:
            lab.result(reader)
    return values
