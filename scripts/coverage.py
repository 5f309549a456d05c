"""Runs tests with every process of theirs measured, and prints what they reach of each room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
DEEP = ("frontends", "remote")
"""Rooms that are told apart by what is in them."""


def room(file: str) -> str:
    """`vfs/remote/sftp/pool.py` → `remote/sftp`."""
    first, *more = Path(file).relative_to(ROOT / "vfs").parts
    return f"{first}/{more[0]}" if first in DEEP and len(more) > 1 else first


def spans(lines: list[int]) -> Iterator[str]:
    """[1, 2, 3, 7] → "1-3", "7"."""
    for at in sorted(set(lines)):
        if at - 1 not in lines:
            end = at
            while end + 1 in lines:
                end += 1
            yield f"{at}-{end}" if end > at else f"{at}"


def main(tests: list[str]) -> int:
    with TemporaryDirectory() as place:
        settings = Path(place, "settings")
        settings.write_text(f"[run]\nsource = {ROOT / 'vfs'}\nparallel = True\ndata_file = {place}/data\n")
        Path(place, "sitecustomize.py").write_text("import coverage; coverage.process_startup()")
        more = {"PYTHONPATH": f"{place}:{ROOT}", "COVERAGE_PROCESS_START": str(settings)}
        words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests]
        code = subprocess.run(words, cwd=ROOT, env={**os.environ, **more}, check=False).returncode
        for verb in (["combine", "-q"], ["json", "-q", "-o", f"{place}/report"]):
            subprocess.run(
                [sys.executable, "-m", "coverage", *verb, f"--rcfile={settings}"], cwd=ROOT, check=True
            )
        files = json.loads(Path(place, "report").read_text())["files"]
    lines: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for file, found in files.items():
        for name in (room(str(ROOT / file)), "all"):
            lines[name] += found["summary"]["num_statements"]
            missed[name] += found["summary"]["missing_lines"]
        if found["missing_lines"]:
            print(f"{file}: {' '.join(spans(found['missing_lines']))}")
    for name in sorted(lines):
        share = 100 * (1 - missed[name] / max(1, lines[name]))
        print(f"{name:20} {lines[name]:6} statements, {missed[name]:5} missed, {share:5.1f} %")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests/unit"]))
