"""A walk over a real mount that takes many TTLs: each directory is listed about once, and everything is there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd

pytestmark = needs_fuse

DIRECTORIES, EACH = 200, 200
LISTING = 10
"""Requests of one listing of so many names: OPENDIR, READDIRs of a hundred names and some beyond the end, CLOSE."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for i in range(DIRECTORIES):
        directory = root / f"run-{i:03d}"
        directory.mkdir(parents=True)
        for j in range(EACH):
            (directory / f"event-{j:03d}.txt").touch()
        settle(directory / "event-000.txt")
    return root


def status(mounted: Mounted) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(mounted.artisync("status", "--json", str(mounted.path)).stdout)
    return dict(told["mounts"][0])


def test_a_walk_that_takes_many_ttls_lists_each_directory_about_once(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    mounted = Mounted(sshd, root, tmp_path, "--ttl", "300ms")
    with mounted as path:
        before = status(mounted)["remote"]["requests"]
        found = subprocess.run(["find", path, "-type", "f"], capture_output=True, check=True).stdout
        after = status(mounted)
        assert found.count(b"\n") == DIRECTORIES * EACH
        assert after["remote"]["requests"] - before <= 1.3 * LISTING * DIRECTORIES
