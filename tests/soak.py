"""`python -m tests.soak`: the state machine of `tests.lab.machine` on several real mounts at once, for a while.

Prints the figures as JSON; exit 1 on a read that no version explains, a stale answer, a name that is wrongly absent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.lab.mounted import Mounted
from tests.lab.on_a_mount import OnAMount, run_machine
from tests.lab.sshd import Sshd

EXAMPLES, STEPS = 5, 30
"""Of one run of the machine; runs follow each other until the time is over."""


def soak(transport: str, end: float) -> dict[str, int]:
    """Run machines on one mount until `end` (of the monotonic clock)."""
    clients: list[OnAMount] = []
    failures = 0
    with tempfile.TemporaryDirectory(prefix="artisync-soak-") as directory:
        place = Path(directory)
        with Sshd(place / "artifacts") as sshd:
            options = ("--ttl", "500ms", "--transport", transport)
            mounted = Mounted(sshd, place / "artifacts", place, *options)
            numbers = itertools.count()

            def begin() -> OnAMount:
                clients.append(OnAMount(mounted, sshd, f"example-{next(numbers)}"))
                return clients[-1]

            with mounted:
                while time.monotonic() < end:
                    try:
                        run_machine(begin, EXAMPLES, STEPS)
                    except Exception:  # noqa: BLE001 # told, and counted; the next run goes on
                        failures += 1
                        traceback.print_exc()
    return {
        "examples": len(clients),
        "operations": sum(client.operations for client in clients),
        "versions": sum(client.history.versions for client in clients),
        "failures": failures,
    }


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Random changes and reads, held against history."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--mounts", type=int, default=4, help="at once; every other one over each transport")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    transports = [("paramiko", "openssh")[number % 2] for number in range(options.mounts)]
    with ProcessPoolExecutor(options.mounts) as pool:
        results = list(pool.map(soak, transports, [end] * options.mounts))
    total = {key: sum(result[key] for result in results) for key in results[0]}
    print(json.dumps({"minutes": options.minutes, "mounts": options.mounts, **total}))
    return 1 if total["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
