"""Signals that end no program end none of its calls: Ctrl-Z and `fg`, a tracer, timers, children, a window's new size.

The link has 60 ms of round trip and nothing is listed yet, so that nearly every signal comes while a call waits.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.lab.processes import Program
from tests.lab.waiting import eventually
from tests.lab.world import World

pytestmark = needs_fuse

DIRECTORIES = 24
TREES = 20
"""One for each test, and some for those that run once more."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"), timeout=60, rtt_ms=60)
    for test in range(TREES):
        for directory in range(DIRECTORIES):
            world.file(f"{test}/{directory // 8}/{directory}/file", 300)
    world.file("exp/file")
    with world:
        yield world
        world.relay.blackhole(False)


@pytest.fixture
def cold(world: World) -> Path:
    """A tree that nobody has looked into."""
    return world.path / str(next(_trees))


_trees = itertools.count()


PROGRAMS: dict[str, Callable[[Path, Path], list[str]]] = {
    "find": lambda tree, _: ["find", str(tree), "-type", "f"],
    "cp": lambda tree, out: ["cp", "-rv", str(tree), str(out)],
    "tar": lambda tree, out: ["tar", "-cvf", f"{out}.tar", "-C", str(tree.parent), tree.name],
}


def waits(pid: int) -> bool:
    """Whether it is in a call that has not returned."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SD"


def stop_and_go_on(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    process.send_signal(stop)
    time.sleep(0.03)
    process.send_signal(signal.SIGCONT)


TROUBLES: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
    "Ctrl-Z and fg": lambda process: stop_and_go_on(process, signal.SIGTSTP),
    "SIGSTOP": lambda process: stop_and_go_on(process, signal.SIGSTOP),
    "SIGWINCH": lambda process: process.send_signal(signal.SIGWINCH),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_stopped_and_goes_on_gets_everything(
    cold: Path, tmp_path: Path, program: str, trouble: str
) -> None:
    words = PROGRAMS[program](cold, tmp_path / "out")
    disturb(words, TROUBLES[trouble])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_traced_for_a_moment_gets_everything(
    cold: Path, tmp_path: Path, program: str
) -> None:
    def trace(process: subprocess.Popen[bytes]) -> None:
        tracer = ["strace", "-f", "-o", "/dev/null", "-p", str(process.pid)]
        with subprocess.Popen(tracer, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as strace:
            time.sleep(0.15)
            strace.send_signal(signal.SIGINT)

    disturb(PROGRAMS[program](cold, tmp_path / "out"), trace)


def disturb(words: list[str], trouble: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Run a program to its end, with `trouble` for it again and again; it must name all files and complain of none."""
    environment = {**os.environ, "LC_ALL": "C"}
    with Program(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        times = 0
        while process.poll() is None and times < 60:
            time.sleep(0.05)
            trouble(process)
            times += 1
        out, err = process.communicate(timeout=30)
    assert times >= 3
    assert err == b""
    assert process.returncode == 0
    named = {line.split(b"->")[0].strip(b" '\n") for line in out.splitlines()}
    assert sum(name.endswith(b"/file") for name in named) == DIRECTORIES


WALK = """
import os, signal, subprocess, sys
handled = 0
def handle(*_):
    global handled
    handled += 1
SETUP
names = []
def failed(error): raise error
for place, _, files in os.walk(sys.argv[1], onerror=failed):
    names += files
    for file in files:
        os.stat(os.path.join(place, file))
        with open(os.path.join(place, file), "rb") as opened:
            assert len(opened.read()) == 300
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(names), handled)
"""
HANDLERS = {
    "an interval timer": "signal.signal(signal.SIGALRM, handle); signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)",
    "children that end": "signal.signal(signal.SIGCHLD, handle)\n"
    "for number in range(20): subprocess.Popen(['sleep', str(0.2 * number)])",
    "children that end, in another thread": "signal.signal(signal.SIGCHLD, handle)\n"
    "import threading, time\n"
    "def children():\n"
    "    while True: subprocess.run(['sleep', '0.05'])\n"
    "threading.Thread(target=children, daemon=True).start()",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_program_that_handles_signals_of_its_own_gets_everything(cold: Path, handler: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK.replace("SETUP", HANDLERS[handler]), cold],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    names, handled = map(int, done.stdout.split())
    assert names == DIRECTORIES
    assert handled > 10


def test_status_goes_on_watching_until_ctrl_c(world: World) -> None:
    words = [sys.executable, "-m", "vfs", "status", "--watch", "--json", str(world.path)]
    with Program(
        words, env=world.mounted.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert b'"mounts"' in process.stdout.readline()
            for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD) * 2:
                process.send_signal(number)
                time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert err == b""
    assert process.returncode == 0


# --- and those that end one -------------------------------------------------------------------------------------------

READ = "print(flush=True); open(sys.argv[1]).read()"
ENDED: dict[str, tuple[str, signal.Signals, int]] = {
    "Ctrl-C, KeyboardInterrupt": (f"try:\n {READ}\nexcept KeyboardInterrupt: sys.exit(7)", signal.SIGINT, 7),
    "SIGQUIT, which leaves a core": (READ, signal.SIGQUIT, -signal.SIGQUIT),
    "SIGHUP": (READ, signal.SIGHUP, -signal.SIGHUP),
    "SIGUSR1": (READ, signal.SIGUSR1, -signal.SIGUSR1),
    "SIGTERM, handled": (
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n{READ}",
        signal.SIGTERM,
        9,
    ),
    "SIGTERM, another thread reads": (
        "import threading, time\nthreading.Thread(target=lambda: open(sys.argv[1]).read()).start()\n"
        "time.sleep(0.3); print(flush=True); time.sleep(60)",
        signal.SIGTERM,
        -signal.SIGTERM,
    ),
    "SIGKILL": (READ, signal.SIGKILL, -signal.SIGKILL),
}


@pytest.mark.parametrize("first", [None, signal.SIGWINCH], ids=["first", "later"])
@pytest.mark.parametrize("how", ENDED)
def test_a_waiting_program_is_ended_at_once_whatever_signal_came_before(
    world: World, how: str, first: signal.Signals | None
) -> None:
    code, number, expected = ENDED[how]
    os.listdir(world.path / "exp")
    world.relay.blackhole()
    harmless = "signal.signal(signal.SIGWINCH, lambda *_: None)"
    with Program(
        [sys.executable, "-c", f"import signal, sys\n{harmless}\n{code}", world.path / "exp/file"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert eventually(lambda: waits(process.pid))
        if first is not None:
            process.send_signal(first)
            time.sleep(0.3)
            assert process.poll() is None
        process.send_signal(number)
        process.wait(1)
    assert process.returncode == expected
