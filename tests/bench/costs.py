"""Cases of what a mount costs: memory while much goes through, processor and traffic while nothing does."""

from __future__ import annotations

import os
import time

from tests.bench import content
from tests.bench.case import CPU, SPEED, Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import MB, opened
from tests.bench.results import Figure
from tests.bench.scale import GIB, Scale, size

RTT_MS = 100
SETTLE_SECONDS = 3.0
"""A mount may still be at work for a moment after the last request."""


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    seconds = f"{scale.memory_seconds:g} s"
    return [
        Case(
            "memory",
            f"{size(scale.memory)} go through at RTT {RTT_MS} ms and 1 Gbit/s, at most {seconds}",
            {
                "memory": Figure("peak memory", "MB"),
                "amount": SPEED._replace(unit="MB"),
                "cpu": CPU,
            },
            _memory,
            once=True,
        ),
        Case(
            "idle",
            f"{scale.idle:g} s of a mount that nobody uses",
            {
                "cpu": Figure("CPU", "ms"),
                "down": Figure("received", "bytes"),
                "up": Figure("sent", "bytes"),
            },
            _idle,
            together=True,
            once=True,
        ),
    ]


def _memory(lab: Lab, peer: Peer) -> Values:
    scale = lab.scale
    original = lab.made("exp-long/zeros.bin", lambda path: content.sparse_file(path, scale.memory))
    with lab.relay(RTT_MS) as relay, opened(lab, peer, lab.server(relay.port), original) as (view, path):
        before = view.cpu_seconds()
        done = lab.program("drain", path, scale.memory_seconds)
        return {
            "memory": view.peak_resident() / MB,
            "amount": done["bytes"] / MB,
            "cpu": (view.cpu_seconds() - before) * GIB / done["bytes"],
        }


def _idle(lab: Lab, peer: Peer) -> Values:
    root = lab.made("quiet", lambda path: content.experiments(path, 10))
    with (
        lab.relay(0, 0) as relay,
        lab.fresh() as place,
        lab.view(peer, lab.server(relay.port, root), place) as view,
    ):
        for directory, _, names in os.walk(view.path):
            for name in names:
                with open(os.path.join(directory, name), "rb") as file:
                    file.read()
        time.sleep(SETTLE_SECONDS)
        cpu, down, up = view.cpu_seconds(), relay.bytes_down(), relay.bytes_up()
        time.sleep(lab.scale.idle)
        return {
            "cpu": (view.cpu_seconds() - cpu) * 1000,
            "down": relay.bytes_down() - down,
            "up": relay.bytes_up() - up,
        }
