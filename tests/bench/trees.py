"""Cases of programs that know a format, or walk a tree, all at RTT 50 ms and 1 Gbit/s."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import SECONDS, WIRE, Case, Values
from tests.bench.lab import Failed, Lab
from tests.bench.peers import Peer
from tests.bench.reads import MB, opened
from tests.bench.scale import Scale
from tests.lab.tensorboard import TensorBoard

RTT_MS = 50
POLL_SECONDS = 0.1
_TIMED = {"time": SECONDS, "wire": WIRE}


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    megabytes = f"{scale.tensors * content.TENSOR_BYTES / MB:.0f} MB, {scale.tensors} tensors"
    return [
        Case(
            "torch-load",
            f"torch.load of a checkpoint of {megabytes}",
            _TIMED,
            partial(_torch, "plain"),
            local=True,
        ),
        Case(
            "torch-mmap",
            f"torch.load(mmap=True) of {megabytes}, then one tensor",
            _TIMED,
            partial(_torch, "mmap"),
            local=True,
        ),
        Case("safetensors", f"safe_open of {megabytes}, then one tensor", _TIMED, _safetensors, local=True),
        Case(
            "find",
            f"find over {scale.experiments} experiments, {7 * scale.experiments} files; then again",
            {"time": SECONDS, "again": SECONDS._replace(label="again"), "wire": WIRE},
            _find,
            local=True,
        ),
        Case(
            "tensorboard",
            f"TensorBoard over {scale.runs} runs until every scalar is served",
            _TIMED,
            _tensorboard,
            local=True,
        ),
    ]


def _torch(way: str, lab: Lab, peer: Peer) -> Values:
    tensors = lab.scale.tensors
    original = lab.made("exp-torch/model.pt", lambda path: content.torch_file(path, tensors))
    return _program(lab, peer, original, "torch_load", content.tensor_name(tensors // 2), way)


def _safetensors(lab: Lab, peer: Peer) -> Values:
    tensors = lab.scale.tensors
    original = lab.made("exp-safe/model.safetensors", lambda path: content.safetensors_file(path, tensors))
    return _program(lab, peer, original, "safetensors", content.tensor_name(tensors // 2))


def _program(lab: Lab, peer: Peer, original: Path, name: str, *arguments: str) -> Values:
    with lab.relay(RTT_MS) as relay, opened(lab, peer, lab.server(relay.port), original) as (_, path):
        before = relay.bytes_down()
        done = lab.program(name, path, original, *arguments)
        return {"time": done["seconds"], "wire": (relay.bytes_down() - before) / MB}


def _find(lab: Lab, peer: Peer) -> Values:
    count = lab.scale.experiments
    root = lab.made("tree", lambda path: content.experiments(path, count))
    with (
        lab.relay(RTT_MS) as relay,
        lab.fresh() as place,
        lab.view(peer, lab.server(relay.port, root), place) as view,
    ):
        before = relay.bytes_down()
        words = ["find", str(view.path), "-type", "f"]
        first, found = lab.timed(words, place)
        again, found_again = lab.timed(words, place)
        wire = relay.bytes_down() - before
    if not len(found.splitlines()) == len(found_again.splitlines()) == 7 * count:
        raise Failed(f"find saw {len(found.splitlines())} and {len(found_again.splitlines())} files")
    return {"time": first, "again": again, "wire": wire / MB}


def _tensorboard(lab: Lab, peer: Peer) -> Values:
    scale = lab.scale
    root = lab.made("runs", lambda path: content.runs(path, scale.runs, scale.steps))
    with (
        lab.relay(RTT_MS) as relay,
        lab.fresh() as place,
        lab.view(peer, lab.server(relay.port, root), place) as view,
    ):
        before = relay.bytes_down()
        began = time.monotonic()
        with TensorBoard(view.path, place / "tensorboard.log") as board:
            _await_scalars(board, scale, began + scale.limit)
            seconds = time.monotonic() - began
        return {"time": seconds, "wire": (relay.bytes_down() - before) / MB}


def _await_scalars(board: TensorBoard, scale: Scale, end: float) -> None:
    def until(true: object, what: str) -> None:
        while not true():  # type: ignore[operator]
            if time.monotonic() > end:
                raise Failed(f"takes more than {scale.limit:g} s: {what}")
            time.sleep(POLL_SECONDS)

    until(lambda: len(board.tags()) == scale.runs, "not all runs are there")
    for run in board.tags():
        for tag in range(content.TAGS):
            until(partial(_served, board, run, f"tag-{tag}", scale.steps), f"{run} is not complete")


def _served(board: TensorBoard, run: str, tag: str, steps: int) -> bool:
    return len(board.steps(tag, run)) == steps
