"""`python -m tests.bench`: what `scripts/bench` runs.

Each run replaces the cases that it measured in OUTPUT/results.json and writes the page and the picture anew from all of
them. A quick run keeps its results apart, in OUTPUT/quick.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import (
    copies,
    costs,
    formats,
    links,
    neighbours,
    patterns,
    plot,
    reads,
    results,
    table,
    trees,
    unsteady,
)
from tests.bench.case import Case, run
from tests.bench.lab import Lab
from tests.bench.machine import REPOSITORY, machine, versions
from tests.bench.peers import PEERS
from tests.bench.results import CaseResult
from tests.bench.scale import FULL, QUICK, Scale
from tests.lab.sshd import SSHD

QUICK_CASES = ("loopback", "wan-50", "torch-mmap", "find", "copy-small")
QUICK_PEERS = ("artisync-paramiko", "artisync-openssh", "sshfs", "rclone", "scp", "rsync", "local")


def all_cases(scale: Scale) -> dict[str, Case]:
    """Every case at a scale, by name."""
    return {
        case.name: case
        for module in (reads, links, unsteady, patterns, neighbours, formats, trees, costs, copies)
        for case in module.cases(scale)
    }


def bench(
    names: Sequence[str], peers: Sequence[str], rounds: int, scale: Scale, command: str
) -> Iterator[CaseResult]:
    """Measure the cases of these names, one after the other; progress goes to stderr. Raises KeyError."""
    known = all_cases(scale)
    chosen = [known[name] for name in names]
    with Lab(scale) as lab:
        for case in chosen:
            concerned = [PEERS[name] for name in peers if case.concerns(PEERS[name])]
            yield CaseResult(
                name=case.name,
                title=case.title,
                figures=dict(case.figures),
                outcomes=run(lab, case, concerned, rounds, lambda line: print(line, file=sys.stderr)),
                command=command,
                date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
                rounds=1 if case.once else rounds,
                machine=machine(),
                versions=versions(concerned),
            )


def write(output: Path, *found: CaseResult) -> None:
    """Take the cases into the results in `output`, and write page and picture anew."""
    output.mkdir(parents=True, exist_ok=True)
    cases = results.load(output / "results.json") | {case.name: case for case in found}
    cases = {name: cases[name] for name in all_cases(FULL) if name in cases}
    results.save(output / "results.json", cases)
    picture = (
        "benchmarks.svg" if plot.draw(cases, [output / "benchmarks.svg", output / "benchmarks.png"]) else None
    )
    (output / "README.md").write_text(table.page(cases, picture))


def main(arguments: Sequence[str]) -> int:
    """The command line; exit code 0, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Compare artisync with its peers.")
    parser.add_argument("case", nargs="*", help="what to measure (default: everything)")
    parser.add_argument("--list", action="store_true", help="name the cases and the peers, and end")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, a few cases: 3 minutes")
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds, all peers in turn in each (default: 3)"
    )
    parser.add_argument("--peers", default="", help="names with commas between (default: all)")
    parser.add_argument("--limit", type=float, help="seconds that one measurement may take (default: 120)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/benchmarks")
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    if options.limit is not None:
        scale = replace(scale, limit=options.limit)
    known = all_cases(scale)
    if options.list:
        print("\n".join(f"{case.name:14} {case.title}" for case in known.values()))
        print("peers:", ", ".join(PEERS))
        return 0
    names = options.case or (QUICK_CASES if options.quick else list(known))
    peers = options.peers.split(",") if options.peers else (QUICK_PEERS if options.quick else list(PEERS))
    for word in [
        *(name for name in names if name not in known),
        *(name for name in peers if name not in PEERS),
    ]:
        parser.error(f"there is no case or peer {word!r} (--list names them)")
    if SSHD is None:
        parser.error("there is no sshd on this machine (Debian: openssh-server)")
    rounds = options.rounds or (1 if options.quick else 3)
    command = shlex.join(["./scripts/bench", *arguments])
    output = options.output / "quick" if options.quick else options.output
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmounts what is mounted
    for found in bench(names, peers, rounds, scale, command):
        write(output, found)
        print(table.case_table(found), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
