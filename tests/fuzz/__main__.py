"""`python -m tests.fuzz --minutes N [--target NAME]`: each target in a process of its own, for so long."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.changes import changed

FOUND = Path(tempfile.gettempdir()) / "artisync-fuzz"
"""Where inputs are kept that broke a rule."""


def main() -> int:
    """0 when no input broke a rule."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target  [default: 1]")
    parser.add_argument("--target", metavar="NAME", action="append", help="only this one")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        logging.disable()
        _fuzz(given.one, given.minutes * 60, given.corpus)
        return 0
    names = list(importlib.import_module("tests.fuzz.targets").TARGETS)
    if unknown := set(given.target or ()) - set(names):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(names)}")
    failed = [name for name in given.target or names if not _run(name, given.minutes)]
    if failed:
        print(f"broken: {', '.join(failed)}; the inputs are in {FOUND}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, minutes: float) -> bool:
    print(f"{name}: ", end="", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--minutes", str(minutes)]
    with tempfile.TemporaryDirectory(prefix="artisync-corpus-") as corpus:  # libFuzzer clears nothing away
        command += ["--corpus", corpus]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = (done.stdout + done.stderr).strip().splitlines()
    print(said[-1] if said else "", flush=True)
    if done.returncode:
        print("\n".join(said[-40:]), file=sys.stderr)
    return done.returncode == 0


def _fuzz(name: str, seconds: float, corpus: str) -> None:
    atheris: Any = None
    importing: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if importlib.util.find_spec("atheris") is not None:
        atheris = importlib.import_module("atheris")
        importing = atheris.instrument_imports(include=["vfs"])
    with importing:
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[name]

    def one(data: bytes) -> None:
        try:
            targets.check(target, data)
        except BaseException:
            FOUND.mkdir(exist_ok=True)
            (FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
            raise

    seeds = target.seeds()
    for seed in seeds:
        one(seed)
    if atheris is not None:
        _with_atheris(atheris, seeds, seconds, one, corpus)
        return
    chance, runs, end = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        one(changed(seeds, chance))
        runs += 1
    print(f"{runs} inputs, none broke a rule")


def _with_atheris(
    atheris: Any, seeds: list[bytes], seconds: float, one: Callable[[bytes], None], corpus: str
) -> None:
    """Never returns: libFuzzer ends the process, with an error when a rule was broken."""
    for i, seed in enumerate(seeds):
        (Path(corpus) / str(i)).write_bytes(seed)
    options = [
        f"-max_total_time={max(1, int(seconds))}",
        "-max_len=1048576",
        "-rss_limit_mb=0",
        "-timeout=30",
    ]
    atheris.Setup(["fuzz", *options, f"-artifact_prefix={corpus}/", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
