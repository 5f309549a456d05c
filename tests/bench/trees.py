"""Cases of programs that walk a tree, all at RTT 50 ms and 1 Gbit/s."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import SECONDS, WIRE, Case, Values
from tests.bench.lab import Failed, Lab
from tests.bench.peers import Peer
from tests.bench.reads import MB
from tests.bench.scale import Scale
from tests.lab.tensorboard import TensorBoard

RTT_MS = 50
POLL_SECONDS = 0.1
_TIMED = {"time": SECONDS, "wire": WIRE}


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    return [
        Case(
            "find",
            f"find over {scale.experiments} experiments, {7 * scale.experiments} files; then again",
            {"time": SECONDS, "again": SECONDS._replace(label="again"), "wire": WIRE},
            _find,
            local=True,
        ),
        Case(
            "list",
            f"ls -l of a directory of {scale.entries} entries; then again",
            {"time": SECONDS, "again": SECONDS._replace(label="again"), "wire": WIRE},
            _list,
            local=True,
        ),
        Case(
            "tensorboard",
            f"TensorBoard over {scale.runs} runs until every scalar is served",
            _TIMED,
            partial(_tensorboard, scale.runs),
            local=True,
        ),
        Case(
            "tensorboard-many",
            f"TensorBoard over {scale.many_runs} runs until every scalar is served",
            _TIMED,
            partial(_tensorboard, scale.many_runs),
            local=True,
            once=True,
        ),
    ]


def _find(lab: Lab, peer: Peer) -> Values:
    count = lab.scale.experiments
    root = lab.made("tree", lambda path: content.experiments(path, count))
    return _twice(lab, peer, root, ["find", ".", "-type", "f"], 7 * count)


def _list(lab: Lab, peer: Peer) -> Values:
    count = lab.scale.entries
    root = lab.made("wide", lambda path: content.empty_files(path / "all", count))
    return _twice(lab, peer, root, ["ls", "-l", "all"], count + 1)


def _twice(lab: Lab, peer: Peer, root: Path, words: list[str], lines: int) -> Values:
    """Run a command in a fresh mount of `root`, and again; it must print so many lines."""
    with (
        lab.relay(RTT_MS) as relay,
        lab.fresh() as place,
        lab.view(peer, lab.server(relay.port, root), place) as view,
    ):
        before = relay.bytes_down()
        words = ["env", "-C", str(view.path), *words]
        first, found = lab.timed(words, place)
        again, found_again = lab.timed(words, place)
        wire = relay.bytes_down() - before
    if not len(found.splitlines()) == len(found_again.splitlines()) == lines:
        raise Failed(f"{words[3]} saw {len(found.splitlines())} and {len(found_again.splitlines())} lines")
    return {"time": first, "again": again, "wire": wire / MB}


def _tensorboard(runs: int, lab: Lab, peer: Peer) -> Values:
    scale = lab.scale
    root = lab.made(f"runs-{runs}", lambda path: content.runs(path, runs, scale.steps))
    with (
        lab.relay(RTT_MS) as relay,
        lab.fresh() as place,
        lab.view(peer, lab.server(relay.port, root), place) as view,
    ):
        before = relay.bytes_down()
        began = time.monotonic()
        with TensorBoard(view.path, place / "tensorboard.log") as board:
            _await_scalars(board, runs, scale, began + scale.limit)
            seconds = time.monotonic() - began
        return {"time": seconds, "wire": (relay.bytes_down() - before) / MB}


def _await_scalars(board: TensorBoard, runs: int, scale: Scale, end: float) -> None:
    def until(true: object, what: str) -> None:
        while not true():  # type: ignore[operator]
            if time.monotonic() > end:
                raise Failed(f"takes more than {scale.limit:g} s: {what}")
            time.sleep(POLL_SECONDS)

    until(lambda: len(board.tags()) == runs, "not all runs are there")
    for run in board.tags():
        for tag in range(content.TAGS):
            until(partial(_served, board, run, f"tag-{tag}", scale.steps), f"{run} is not complete")


def _served(board: TensorBoard, run: str, tag: str, steps: int) -> bool:
    return len(board.steps(tag, run)) == steps
