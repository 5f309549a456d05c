"""How to run this very Python and this very package in another process, and how a process that we started ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import vfs


def words(*arguments: str, module: str = "vfs") -> list[str]:
    """The words that run `artisync ARGUMENTS`, or another module; the working directory is no place for modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_path() -> str | None:
    """The PYTHONPATH with which `words` finds this package; None where it is installed."""
    home = Path(vfs.__file__).parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return None
    more = os.environ.get("PYTHONPATH")
    return f"{home}{os.pathsep}{more}" if more else str(home)


def environment() -> dict[str, str]:
    """Ours, such that `words` finds this package."""
    path = python_path()
    return dict(os.environ) if path is None else {**os.environ, "PYTHONPATH": path}


def end(process: subprocess.Popen[bytes], seconds: float, number: signal.Signals = signal.SIGTERM) -> None:
    """Send it the signal, and kill it if it has not ended after `seconds`, or when the person is in a hurry (Ctrl-C)."""
    try:
        process.send_signal(number)
        process.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
