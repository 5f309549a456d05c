"""What a TensorBoard costs that nobody looks at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.tensorboard import TensorBoard
from tests.lab.waiting import eventually
from vfs.commands.demo import events

pytestmark = needs_fuse

RUNS = 20
SECONDS = 5.0
TTL = 0.5
LISTING = 6
"""Requests of one listing at most: OPENDIR, READDIRs, CLOSE, and LSTAT of the directory."""
BATCH = 4
"""Requests of one look at a file at most: READs and their FSTAT, LSTAT."""


def counters(mounted: Mounted) -> dict[str, Any]:
    """Requests and bytes of the mount so far."""
    answer = json.loads(mounted.artisync("status", "--json", str(mounted.path)).stdout)
    remote: dict[str, Any] = answer["mounts"][0]["remote"]
    return remote


def test_idle_runs_cost_one_look_at_each_directory_and_file_per_ttl_at_most(
    mounted: Mounted, experiment: Path, shown: Path, tmp_path: Path
) -> None:
    for run in range(RUNS):
        path = experiment / f"run-{run}/tensorboard" / events.file_name(1_700_000_000, "host", 1)
        path.parent.mkdir(parents=True)
        steps = [events.scalars(1_700_000_000, step, {"loss": 1.0}) for step in range(50)]
        events.append(path, events.file_version(1_700_000_000) + b"".join(steps))
        settle(path)
    with TensorBoard(shown, tmp_path / "log") as board:
        assert eventually(lambda: len(board.tags()) == RUNS, 60)
        time.sleep(3)
        before, began = counters(mounted), time.monotonic()
        time.sleep(SECONDS)
        after, seconds = counters(mounted), time.monotonic() - began
    directories = 2 * RUNS + 4
    requests = after["requests"] - before["requests"]
    assert requests <= (LISTING * directories + BATCH * RUNS) * seconds / TTL
    assert after["bytes_received"] - before["bytes_received"] <= 200 * requests
