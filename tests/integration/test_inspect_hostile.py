"""`inspect` of small files that ask for much: two seconds of work and 256 MiB, whatever they say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.formats.hostile_files import FILES

SECONDS = 2.0
SUM = 2_000_000
"""Numbers whose sum takes some 50 ms: a machine that does other work beside takes longer, and may for the file, too."""
SUM_SECONDS = 0.05


def pace() -> float:
    """How many times as long as expected this machine takes just now."""
    began = time.process_time()
    sum(range(SUM))
    return max(1.0, (time.process_time() - began) / SUM_SECONDS)


_CHILD = """
import json, os, resource, sys, time
from vfs.base.errors import UnreadableFormat
from vfs.formats.describe import inspect_file
from vfs.formats.report import render
path, name = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
began = time.process_time()
try:
    read = lambda at, length: os.pread(fd, length, at)
    report = inspect_file(name.encode(), os.fstat(fd).st_size, read, lambda name: (1 << 40, read))
    said = "; ".join(report.notes)
    json.dumps(report.as_json()), render(report)
except UnreadableFormat as e:
    said = str(e)
took, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.platform == "linux":  # what getrusage tells is never less than what the parent had
    with open("/proc/self/status") as status:
        peak = next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), peak)
print(json.dumps([said, took, peak * (1 if sys.platform == "darwin" else 1024)]))
"""


@pytest.mark.parametrize("called", FILES)
def test_a_hostile_file_takes_two_seconds_and_256_mib_at_most(called: str, tmp_path: Path) -> None:
    name, make = FILES[called]
    path = tmp_path / "file"
    path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), name], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said, took, peak = json.loads(done.stdout)
    assert took < SECONDS or took < SECONDS * pace(), said
    assert peak < 256 << 20, said
    assert len(said) < 1000
