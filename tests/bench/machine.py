"""What the numbers depend on: the machine, and the versions of everybody who takes part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from tests.bench.peers import Peer, find

REPOSITORY = Path(__file__).resolve().parents[2]
_ASKED = {"sshfs": ["--version"], "rclone": ["version"], "rsync": ["--version"]}
"""How a program is asked for its version; scp is OpenSSH's."""


def machine() -> dict[str, str]:
    """Processor, memory and kernel, in words."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """The version of artisync, of what it stands on, and of the peers' programs."""
    found = {
        "artisync": _commit() or metadata.version("artisync"),
        "Python": platform.python_version(),
        "paramiko": metadata.version("paramiko"),
        "OpenSSH": _asked("ssh", ["-V"]),
    }
    for program in sorted({peer.program for peer in peers} & _ASKED.keys()):
        if find(program) is not None:
            found[program] = _asked(program, _ASKED[program])
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit of the working tree, with `-dirty` where more than results was changed."""

    def git(*words: str) -> str:
        words = ("git", "-C", str(REPOSITORY), *words)
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)docs/benchmarks"
    )
    return git("rev-parse", "--short=10", "HEAD") + "-dirty" * bool(changed) or None


def _asked(program: str, options: list[str]) -> str:
    words = [find(program) or program, *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    match = re.search(rf"{program}\D*(\d+\.\d[\w.]*)", done.stdout + done.stderr, re.IGNORECASE)
    return match[1] if match else "unknown"
