"""Signals that end no program end none of its calls: Ctrl-Z and `fg`, a tracer, timers, children, a window's new size.

The link has 100 ms of round trip and nothing is listed yet, so that nearly every signal comes while a call waits.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import eventually, needs_fuse
from tests.lab.world import World

pytestmark = needs_fuse

DIRECTORIES = 40
EACH = 2
FILES = DIRECTORIES * EACH


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, timeout=20, rtt_ms=100)
    for directory in range(DIRECTORIES):
        for name in range(EACH):
            world.file(f"exp/{directory // 8}/{directory}/{name}", 300)
    with world:
        yield world


PROGRAMS: dict[str, Callable[[World, Path], list[str]]] = {
    "find": lambda world, _: ["find", f"{world.path}/exp", "-type", "f"],
    "cp": lambda world, out: ["cp", "-rv", f"{world.path}/exp", str(out)],
    "tar": lambda world, out: ["tar", "-cvf", f"{out}.tar", "-C", str(world.path), "exp"],
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
    world: World, tmp_path: Path, program: str, trouble: str
) -> None:
    words = PROGRAMS[program](world, tmp_path / "out")
    disturb(words, TROUBLES[trouble])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_traced_for_a_moment_gets_everything(
    world: World, tmp_path: Path, program: str
) -> None:
    def trace(process: subprocess.Popen[bytes]) -> None:
        tracer = ["strace", "-f", "-o", "/dev/null", "-p", str(process.pid)]
        with subprocess.Popen(tracer, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as strace:
            time.sleep(0.15)
            strace.send_signal(signal.SIGINT)

    disturb(PROGRAMS[program](world, tmp_path / "out"), trace)


def disturb(words: list[str], trouble: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Run a program to its end, with `trouble` for it again and again; it must name all files and complain of none."""
    environment = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        times = 0
        while process.poll() is None and times < 60:
            time.sleep(0.05)
            trouble(process)
            times += 1
        out, err = process.communicate(timeout=30)
    assert times > 5
    assert err == b""
    assert process.returncode == 0
    named = {line.split(b"->")[0].strip(b" '\n") for line in out.splitlines()}
    assert sum(name.rsplit(b"/", 1)[-1] in (b"0", b"1") and name.count(b"/") >= 3 for name in named) >= FILES


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
def test_a_program_that_handles_signals_of_its_own_gets_everything(world: World, handler: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK.replace("SETUP", HANDLERS[handler]), world.path / "exp"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    names, handled = map(int, done.stdout.split())
    assert names == FILES
    assert handled > 10


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


@pytest.mark.parametrize("first", [None, signal.SIGWINCH, signal.SIGCONT], ids=str)
@pytest.mark.parametrize("how", ENDED)
def test_a_waiting_program_is_ended_at_once_whatever_signal_came_before(
    world: World, how: str, first: signal.Signals | None
) -> None:
    code, number, expected = ENDED[how]
    os.listdir(world.path / "exp/0/0")
    world.relay.blackhole()
    harmless = "signal.signal(signal.SIGWINCH, lambda *_: None); signal.signal(signal.SIGCONT, lambda *_: None)"
    with subprocess.Popen(
        [sys.executable, "-c", f"import signal, sys\n{harmless}\n{code}", world.path / "exp/0/0/0"],
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
    world.relay.blackhole(False)
