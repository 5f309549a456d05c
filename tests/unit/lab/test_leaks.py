"""The judges of the leak hunt: what grows is found, in numbers and in a process that leaks; so is what is left behind."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.usage import MIB, Usage, growth, table, usage
from tests.leaks import Report, left_behind, rows, series

COUNT = 30


def numbers(
    memory: float = 0, descriptors: float = 0, threads: float = 0, children: float = 0
) -> list[Usage]:
    """Samples of a process that grows by so much with each operation, with some noise."""
    chance = random.Random(1)
    return [
        Usage(
            number,
            50 * MIB + int(number * memory) + chance.randrange(100_000),
            20 + int(number * descriptors) + chance.randrange(2),
            10 + int(number * threads) + chance.randrange(3),
            int(number * children),
        )
        for number in range(0, 1000, 20)
    ]


def growing(samples: list[Usage]) -> set[str]:
    return {one.name for one in growth(samples) if not one.levels_off}


def test_what_grows_is_named() -> None:
    assert growing(numbers()) == set()
    assert growing(numbers(memory=5_000)) == {"memory"}
    assert growing(numbers(descriptors=0.05)) == {"descriptors"}
    assert growing(numbers(threads=0.05)) == {"threads"}
    assert growing(numbers(children=0.05)) == {"children"}


def test_what_was_taken_once_and_single_peaks_are_no_growth() -> None:
    warm = numbers()
    warm[:10] = [Usage(sample.operations, 10 * MIB, 3, 1, 0) for sample in warm[:10]]
    warm[-5] = Usage(warm[-5].operations, 90 * MIB, 400, 40, 9)
    assert growing(warm) == set()


@pytest.mark.parametrize(("each", "grows"), [(0, set()), (5_000, {"memory"})])
def test_garbage_that_is_collected_now_and_then_is_no_growth(each: int, grows: set[str]) -> None:
    sawtooth = [
        Usage(number, 50 * MIB + number * each + number % 230 * 20_000, 20, 10, 0)
        for number in range(0, 1000, 20)
    ]
    assert growing(sawtooth) == grows


def test_a_report_fails_by_what_grows() -> None:
    report = Report()
    report.add("opens", growth(numbers()))
    assert report.failures == []
    report.add("opens", growth(numbers(descriptors=0.05)))
    assert len(report.failures) == 1
    assert "descriptors" in report.failures[0]
    assert "GROWS" in table("opens", growth(numbers(descriptors=0.05)))


LEAKS = {
    "memory": "kept.append(bytearray(os.urandom(1) * 400_000))",
    "descriptors": "kept.append(os.open('/dev/null', os.O_RDONLY))",
    "threads": "kept.append(threading.Thread(target=threading.Event().wait, daemon=True)); kept[-1].start()",
    "children": "kept.append(subprocess.Popen(['sleep', '60']))",
}
_PROGRAM = """
import os, subprocess, sys, threading
kept = []
for line in sys.stdin:
    exec(line)
    print(flush=True)
for one in kept:
    if isinstance(one, subprocess.Popen):
        one.kill()
        one.wait()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A program that does what it is told, a line at a time."""
    words = [sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline()


def test_a_process_that_keeps_nothing_levels_off(process: subprocess.Popen[str]) -> None:
    assert growing(series(process.pid, COUNT, lambda _: tell(process, "bytearray(400_000)"))) == set()


@pytest.mark.parametrize("kind", LEAKS)
def test_a_process_that_leaks_is_found(process: subprocess.Popen[str], kind: str) -> None:
    assert growing(series(process.pid, COUNT, lambda _: tell(process, LEAKS[kind]))) == {kind}


def test_the_work_is_done_as_often_as_asked_for() -> None:
    done: list[int] = []
    samples = series(os.getpid(), 101, done.append)
    assert done == list(range(101))
    assert samples[-1].operations == 101
    assert usage(os.getpid()).descriptors > 0


# --- what a mount leaves behind -----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_nothing_is_left_behind_by_nobody(place: Path) -> None:
    assert left_behind(place) == []


@pytest.mark.parametrize("name", ["tmp/askpass", "artisync/abc.sock", "artisync/abc.json"])
def test_a_file_that_is_left_behind_is_found(place: Path, name: str) -> None:
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).touch()
    (left,) = left_behind(place, 7)
    assert left.startswith("after mount 7: ")
    assert Path(name).name in left


def test_a_process_that_is_left_behind_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.leaks.PATIENCE", 0.2)
    with subprocess.Popen(["sleep", "60"], env={"XDG_RUNTIME_DIR": str(place)}) as process:
        try:
            assert left_behind(place) == [f"after mount 0: process {process.pid}"]
        finally:
            process.kill()


def test_rows_and_files_of_a_cache_are_counted(place: Path) -> None:
    with sqlite3.connect(place / "cache.db") as database:
        database.execute("create table blocks (name text)")
        database.executemany("insert into blocks values (?)", [("a",), ("b",)])
    database.close()
    assert rows(place) == {"files": 1, "blocks": 2}
