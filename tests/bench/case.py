"""A case, and how its rounds are run: all peers in turn, again and again, so that a slow minute hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.lab import Failed, Lab
from tests.bench.peers import Peer
from tests.bench.results import Figure, Outcome

Values = Mapping[str, float]
Measure = Callable[[Lab, Peer], Values]

SPEED = Figure("read", "MB/s")
SECONDS = Figure("time", "s")
WIRE = Figure("received", "MB")
CPU = Figure("CPU of the mount", "s/GiB")


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is compared. `measure` gives a value for each of `figures`, or raises Failed.

    `copies`: programs that copy take part, too; `mounts`: those that mount; `local`: the files themselves.
    `together`: nobody disturbs anybody, so all peers are measured at the same time. `once`: one round will do.
    """

    name: str
    title: str
    figures: Mapping[str, Figure]
    measure: Measure = field(repr=False)
    mounts: bool = True
    copies: bool = False
    local: bool = False
    together: bool = False
    once: bool = False

    def concerns(self, peer: Peer) -> bool:
        """Whether the peer can take part."""
        if peer.mount is None and peer.copy is None:
            return self.local
        return (self.mounts and peer.mount is not None) or (self.copies and peer.copy is not None)


def run(
    lab: Lab, case: Case, peers: Sequence[Peer], rounds: int, tell: Callable[[str], None]
) -> list[Outcome]:
    """Measure all peers; one that is missing, or fails, gets a note and no further round."""
    outcomes = {peer.name: Outcome(peer.name, note=peer.missing() or "") for peer in peers}

    def once(peer: Peer) -> None:
        outcome = outcomes[peer.name]
        if outcome.note:
            return
        try:
            values = case.measure(lab, peer)
        except Failed as error:
            outcome.note = str(error)
        else:
            outcome.add(values)
        tell(f"{case.name}: {peer.name}: {outcome.note or _words(case, values)}")

    for _ in range(1 if case.once else rounds):
        if case.together:
            with ThreadPoolExecutor(len(peers)) as pool:
                list(pool.map(once, peers))
        else:
            for peer in peers:
                once(peer)
    return list(outcomes.values())


def _words(case: Case, values: Values) -> str:
    return ", ".join(
        f"{figure.label} {values[key]:.4g} {figure.unit}"
        for key, figure in case.figures.items()
        if key in values
    )
