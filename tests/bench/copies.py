"""Cases of copying an experiment away: `artisync pull` beside `scp -r` and rsync."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import SECONDS, Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import big_file, copy
from tests.bench.scale import Scale, size

_TIMED = {"time": SECONDS}


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    small, large = f"{scale.small_files} small files", f"a file of {size(scale.large_copy)}"
    return [
        _case(f"{name}{suffix}", f"copy of {what}{words}", partial(_copied, rtt, make))
        for name, what, make in (("copy-small", small, _small), ("copy-large", large, _large))
        for suffix, words, rtt in (("", ", loopback", 0), ("-50", ", RTT 50 ms, 1 Gbit/s", 50))
    ]


def _case(name: str, title: str, measure: Callable[[Lab, Peer], Values]) -> Case:
    return Case(name, title, _TIMED, measure, mounts=False, copies=True)


def _small(lab: Lab) -> Path:
    return lab.made("exp-small", lambda path: content.small_files(path, lab.scale.small_files))


def _large(lab: Lab) -> Path:
    return big_file(lab, lab.scale.large_copy).parent


def _copied(rtt: int, make: Callable[[Lab], Path], lab: Lab, peer: Peer) -> Values:
    experiment = make(lab)
    if not rtt:
        return {"time": copy(lab, peer, lab.server(), experiment)}
    with lab.relay(rtt) as relay:
        return {"time": copy(lab, peer, lab.server(relay.port), experiment)}
