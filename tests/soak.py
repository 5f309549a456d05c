"""`python -m tests.soak`: the state machine of `tests.lab.machine` on several real mounts at once, for a while.

Signals go to the programs meanwhile, and the server pauses. Prints the figures as JSON and a table of faults; exit 1 when
there is any: a read that no version explains, a stale answer, a name that is wrongly absent, EINTR, a hang.
`--leaks`: see `tests.leaks`.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hypothesis import Phase

from tests import leaks
from tests.lab.mounted import Mounted
from tests.lab.on_a_mount import HANG, run_machine
from tests.lab.sshd import Sshd
from tests.lab.times import Times
from tests.lab.troubled import FLOOD, OnATroubledMount, Troubled, catch_signals

EXAMPLES, STEPS = 5, 30
"""Of one run of the machine; runs follow each other until the time is over."""
FLOOD_BYTES = 80 << 20
SIGNAL_EVERY = 0.3
STUCK = 3 * HANG
"""Seconds for one run of the machine to come to its next example; a worker that does not is ended with its traceback."""

KINDS = {
    "EINTR": "EINTR for",
    "hangs": "hangs: took",
    "stale": "is older than the TTL",
    "ESTALE without cause": "is stale without cause",
    "wrongly listed": "is listed and was not there",
    "wrongly absent": "is not listed and was there",
}
"""Faults by what an AssertionError of the machine says; any other is an answer that nothing explains: wrong."""


def kind_of(error: BaseException) -> str:
    """The kind of fault that a run of the machine ended with."""
    text = "\n".join(_messages(error))
    return next((kind for kind, words in KINDS.items() if words in text), "wrong")


def _messages(error: BaseException | None) -> Iterator[str]:
    """What an error says, and those in it and before it."""
    if error is not None:
        yield str(error)
        for other in (*getattr(error, "exceptions", ()), error.__cause__, error.__context__):
            yield from _messages(other)


def soak(transport: str, end: float) -> Counter[str]:
    """Run machines on one mount until `end` (of the monotonic clock)."""
    catch_signals()
    clients: list[OnATroubledMount] = []
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="artisync-soak-") as directory:
        place = Path(directory)
        with Sshd(place / "artifacts") as sshd:
            (place / "artifacts" / FLOOD).write_bytes(bytes(FLOOD_BYTES))
            options = ("--ttl", "500ms", "--transport", transport)
            mounted = Mounted(sshd, place / "artifacts", place, *options)
            numbers = itertools.count()
            pauses = Times(time.monotonic)

            def begin() -> OnATroubledMount:
                faulthandler.dump_traceback_later(STUCK * STEPS / 10, exit=True)
                clients.append(OnATroubledMount(mounted, sshd, f"example-{next(numbers)}", pauses))
                return clients[-1]

            with mounted:
                while time.monotonic() < end:
                    begun = len(clients)
                    try:
                        run_machine(begin, EXAMPLES, STEPS, Troubled, [Phase.generate])
                    except Exception as error:  # noqa: BLE001 # told, and counted; the next run goes on
                        faults = [fault for client in clients[begun:] for fault in client.faults]
                        found[kind_of(faults[0] if faults else error)] += 1
                        traceback.print_exception(faults[0] if faults else error)
            faulthandler.cancel_dump_traceback_later()
    found["examples"] = len(clients)
    found["operations"] = sum(client.operations for client in clients)
    found["versions"] = sum(client.history.versions for client in clients)
    return found


def disturb(pids: list[int], over: threading.Event) -> None:
    """Send signals to processes; SIGSTOP is followed by SIGCONT."""
    while not over.wait(SIGNAL_EVERY):
        pid, number = random.choice(pids), random.choice((signal.SIGCHLD, signal.SIGWINCH, signal.SIGSTOP))
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(random.uniform(0, SIGNAL_EVERY))
            os.kill(pid, signal.SIGCONT)


def run(minutes: float, mounts: int) -> Counter[str]:
    """The figures of all mounts together."""
    end = time.monotonic() + 60 * minutes
    transports = [("paramiko", "openssh")[number % 2] for number in range(mounts)]
    over = threading.Event()
    with ProcessPoolExecutor(mounts, initializer=catch_signals) as pool:
        futures = [pool.submit(soak, transport, end) for transport in transports]
        pids = [process.pid for process in pool._processes.values() if process.pid is not None]
        disturbing = threading.Thread(target=disturb, args=(pids, over))
        disturbing.start()
        try:
            return sum((future.result() for future in futures), Counter())
        finally:
            over.set()
            disturbing.join()


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Random changes and reads, held against history."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--mounts", type=int, default=4, help="at once; every other one over each transport")
    parser.add_argument("--leaks", action="store_true", help="look for what grows, instead")
    options = parser.parse_args(arguments)
    if options.leaks:
        return leaks.main(leaks.Counts())
    total = run(options.minutes, options.mounts)
    faults = {kind: total[kind] for kind in (*KINDS, "wrong")}
    figures = {name: total[name] for name in ("examples", "operations", "versions")}
    print(json.dumps({"minutes": options.minutes, "mounts": options.mounts, **figures, **faults}))
    for name, count in {**figures, **faults}.items():
        print(f"{name:>22}  {count}")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
