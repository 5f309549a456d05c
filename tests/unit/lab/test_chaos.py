"""The judges of `scripts/chaos`: a planted fault of each kind is found, and what a trouble explains is none."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import ledger as ledgers
from tests.chaos.__main__ import Readers, faults
from tests.chaos.ledger import RIGHT, SLACK, TTL, Ledger, Seen
from tests.chaos.life import Life
from tests.chaos.reader import ROLES, Program, catch_signals
from tests.lab import calls
from tests.lab.waiting import eventually

ALLOWED = TTL + SLACK


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    """`f` was `old` until 1000 and is `new`; `log` grew from 10 to 20 bytes then; `still` has always been a file."""
    ledger = Ledger(clock)
    ledger.have("f", "old")
    ledger.have("log", 10)
    ledger.have("still", "file")
    with ledger.change("f", "new"), ledger.change("log", 20):
        pass
    return ledger


def seen(path: str, at: float, saw: str | int = RIGHT, error: int = 0, opened: float | None = None) -> Seen:
    """An answer at once, so many seconds after the change."""
    since = 1000 + at
    return Seen("deed", path, since if opened is None else 1000 + opened, since, since, saw, error)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (seen("f", 1, "new"), RIGHT),
        (seen("f", ALLOWED - 0.1, "old"), RIGHT),
        (seen("f", ALLOWED + 0.1, "old"), ledgers.STALE),
        (seen("f", 1, "other"), ledgers.WRONG),
        (seen("f", 1, ledgers.WRONG), ledgers.WRONG),
        (seen("unchanging", 1, ledgers.WRONG), ledgers.WRONG),
        (seen("log", 1, 15), RIGHT),
        (seen("log", ALLOWED + 0.1, 19), ledgers.STALE),
        (seen("log", 1, 21), ledgers.WRONG),
        (seen("f", 1, error=errno.EINTR), ledgers.INTERRUPTED),
        (seen("still", 1, error=errno.ENOENT), ledgers.LIE),
        (seen("unchanging", 1, error=errno.ENOENT), ledgers.LIE),
        (seen("still", 1, error=errno.ENOTDIR), "ENOTDIR"),
        (seen("still", 1, error=errno.EISDIR), ledgers.LIE),
        (seen("still", 1, ledgers.ABSENT), ledgers.WRONG),
        (seen("still", 1, ledgers.PRESENT), RIGHT),
        (seen("log", 1, error=errno.ESTALE, opened=-5), ledgers.STALE_GROWTH),
        (seen("f", 1, error=errno.ESTALE), "ESTALE"),
        (seen("f", 60, error=errno.ESTALE), ledgers.STALE_HANDLE),
        (seen("f", 60, error=errno.ESTALE, opened=-1), "ESTALE"),
        (seen("unchanging", 1, error=errno.ESTALE), ledgers.STALE_HANDLE),
        (seen("f", 1, error=errno.ETIMEDOUT), ledgers.NO_ANSWER),
        (seen("f", 1, error=errno.EHOSTUNREACH), ledgers.NO_ANSWER),
        (seen("f", 1, error=errno.ENOTCONN), ledgers.OTHER),
        (seen("f", 1, error=errno.EIO), ledgers.OTHER),
    ],
)
def test_each_answer_is_judged_by_what_the_path_was(ledger: Ledger, answer: Seen, verdict: str) -> None:
    assert ledger.verdict(answer) == verdict
    assert answer.path in ledger.explain(answer)


def test_a_silence_excuses_old_answers_for_as_long_as_it_lasts_and_no_longer(
    ledger: Ledger, clock: Clock
) -> None:
    clock.now = 1001
    with ledger.silence.during(0):
        assert ledger.verdict(seen("f", 60, "old")) == RIGHT
        clock.now = 1004
    assert ledger.verdict(seen("f", ALLOWED + 2.9, "old")) == RIGHT
    assert ledger.verdict(seen("f", ALLOWED + 3.1, "old")) == ledgers.STALE


def test_a_silence_that_began_too_late_excuses_nothing(ledger: Ledger, clock: Clock) -> None:
    clock.now = 1010
    with ledger.silence.during(0):
        assert ledger.verdict(seen("f", 10.5, "old")) == ledgers.STALE


def test_while_the_link_is_lost_what_was_last_known_is_right_and_nothing_older_than_was_shown(
    ledger: Ledger, clock: Clock
) -> None:
    clock.now = 1100
    with ledger.silence.during(0), ledger.lost.during(0):
        clock.now = 1101
        assert ledger.verdict(seen("f", 101, "old")) == RIGHT
        assert ledger.verdict(seen("f", 101, error=errno.ESTALE)) == "ESTALE"
        assert ledger.verdict(seen("f", 101.1, "new")) == RIGHT
        assert ledger.verdict(seen("f", 101.2, "old")) == ledgers.STALE
        with ledger.unmounted.during(0):
            clock.now = 1102
        assert ledger.verdict(seen("f", 102.1, "old")) == RIGHT
    assert ledger.verdict(seen("f", 102 + ALLOWED, "old")) == ledgers.STALE


def test_silences_that_follow_each_other_count_once(ledger: Ledger, clock: Clock) -> None:
    for start, end in ((1001.0, 1002.0), (1003.0, 1004.0), (1006.0, 1006.5)):
        clock.now = start
        with ledger.silence.during(1.5):
            clock.now = end
    # silent from 1001 to 1005.5 and from 1006 to 1008
    assert ledger.verdict(seen("f", ALLOWED + 6.4, "old")) == RIGHT
    assert ledger.verdict(seen("f", ALLOWED + 6.6, "old")) == ledgers.STALE


def test_an_open_may_give_up_on_a_file_that_is_always_written_and_a_handle_may_not(ledger: Ledger) -> None:
    def late(opened: float, took: float) -> str:
        return ledger.verdict(Seen("deed", "log", opened, 1001, 1001 + took, RIGHT, errno.ESTALE))

    assert late(1001, 10) == "ESTALE"
    assert late(1001, 1) == ledgers.STALE_GROWTH
    assert late(990, 10) == ledgers.STALE_GROWTH


def test_a_trouble_explains_the_errors_of_its_time(ledger: Ledger, clock: Clock) -> None:
    with ledger.silence.during(2), ledger.unmounted.during(0):
        pass
    for error in (errno.ETIMEDOUT, errno.EHOSTUNREACH):
        assert ledger.verdict(seen("f", 1.9, error=error)) == errno.errorcode[error]
        assert ledger.verdict(seen("f", 2.1, error=error)) == ledgers.NO_ANSWER
    assert ledger.verdict(seen("f", 9, error=errno.ENOTCONN, opened=-1)) == "ENOTCONN"
    assert ledger.verdict(seen("f", 9, error=errno.ENOTCONN, opened=8)) == ledgers.OTHER
    assert ledger.verdict(seen("still", 0, error=errno.ENOENT)) == "ENOTCONN"


# --- programs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.chaos.life.FILES", 4)
    monkeypatch.setattr("tests.chaos.life.FLOOD", 10)
    monkeypatch.setattr("tests.chaos.life.RARE", 3)
    monkeypatch.setattr("tests.chaos.life.EVERY", 0.002)
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.mark.parametrize("role", ROLES)
def test_programs_on_the_servers_own_files_find_no_fault(root: Path, role: str) -> None:
    ledger = Ledger()
    with Life(root, ledger, random.Random(1)):
        program = Program(root, root, 1, role)
        answers = [program.act() for _ in range(300)]
        verdicts = {ledger.verdict(answer) for answer in answers}
    assert RIGHT in verdicts
    assert verdicts.isdisjoint(ledgers.FAULTS), [
        ledger.explain(answer) for answer in answers if ledger.verdict(answer) in ledgers.FAULTS
    ]


PLANTED: list[tuple[str, str, str]] = [
    ("bytes", "whole", "still/0"),
    ("bytes", "part", "still/1"),
    ("bytes", "whole_live", "live/0"),
    ("names", "read_rare", "rare/0"),
    ("names", "through_link", "links/0"),
    ("handles", "follow", "grow/0.bin"),
    ("handles", "part_of_growth", "grow/1.log"),
]


@pytest.mark.parametrize(("role", "deed", "path"), PLANTED)
@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data + b"x"],
    ids=["flipped", "longer"],
)
def test_a_planted_wrong_byte_is_found(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    deed: str,
    path: str,
    spoil: Callable[[bytes], bytes],
) -> None:
    ledger = Ledger()
    with Life(root, ledger, random.Random(1)):
        program = Program(root, root, 1, role)
        honest, pieces = calls.pread, itertools.count()

        def pread(file: int, length: int, offset: int) -> bytes:
            data = honest(file, length, offset)
            return spoil(data) if next(pieces) == 0 else data

        monkeypatch.setattr(calls, "pread", pread)
        assert ledger.verdict(program.do(getattr(program, deed), path)) == ledgers.WRONG


def test_a_planted_stale_view_is_found(root: Path, tmp_path: Path) -> None:
    ledger = Ledger()
    with Life(root, ledger, random.Random(1)):
        pass
    program = Program(root, root, 1, "names")
    for path, what in (("rare/0", "7"), ("links/0", "b"), ("kinds/0", "file")):
        ledger.have(path, ledger.now(path))
        with ledger.change(path, what):  # on the server, and the mount goes on showing what was
            pass
    later = time.monotonic() + ALLOWED + 1
    for deed, path in (
        (program.list_rare, "rare/0"),
        (program.read_rare, "rare/0"),
        (program.through_link, "links/0"),
    ):
        answer = program.do(deed, path)
        late = Seen(answer.deed, path, later, later, later, answer.saw, answer.errno)
        assert ledger.verdict(late) == ledgers.STALE


def test_eintr_is_not_hidden_from_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [
        (number, signal.getsignal(number)) for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGALRM)
    ]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    catch_signals(0.02)
    try:
        with pytest.raises(InterruptedError):
            calls.open_file(fifo)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


# --- the harness --------------------------------------------------------------------------------------------------


def readers(ledger: Ledger, program: str) -> Readers:
    """One program, given as Python."""
    return Readers([sys.executable, "-c", program], ledger, random.Random(1), count=1)


def test_what_a_program_saw_is_judged_and_told(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    line = json.dumps(["read", "f", 1, 1, 1, "never there", 0, "a note"])
    running = readers(ledger, f"import time; print({line!r}, flush=True); time.sleep(60)")
    try:
        assert eventually(lambda: running.told[ledgers.WRONG])
    finally:
        running.end()
    assert running.results[ledgers.WRONG] == 1
    assert "saw never there" in running.told[ledgers.WRONG][0]
    assert "a note" in capsys.readouterr().err


def test_a_program_that_hangs_and_one_that_dies_are_counted_and_replaced(ledger: Ledger) -> None:
    running = readers(ledger, "import time; time.sleep(60)")
    running.check(60)
    assert running.results == {}
    running.check(0)
    assert running.results == {"hangs": 1}
    running.end()
    running = readers(ledger, "raise SystemExit")
    assert eventually(lambda: running.check() is None and running.results["died"] > 0)
    running.end()


def test_each_kind_of_fault_is_one() -> None:
    kinds = (*ledgers.FAULTS, "hangs", "died", "left behind")
    for kind in kinds:
        assert faults({**dict.fromkeys(kinds, 0), kind: 1}) == [kind]
