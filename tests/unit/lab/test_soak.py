"""The judges of `scripts/soak`: a planted fault of each kind is found and named, and an honest mount has none."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab import calls, on_a_mount
from tests.lab.history import Kind
from tests.lab.times import Times
from tests.lab.troubled import FLOOD, SIGNALS, OnATroubledMount, Troubled, catch_signals
from tests.soak import KINDS, kind_of


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Troubled]:
    """On a "mount" that is the server's own directory, with `a.pt` and `link`, which leads to it."""
    online = SimpleNamespace(stdout=json.dumps({"mounts": [{"state": "online"}]}))
    mounted: Any = SimpleNamespace(path=tmp_path, root=tmp_path, artisync=lambda *_: online)
    sshd: Any = SimpleNamespace(signal=lambda _: None)
    (tmp_path / FLOOD).touch()
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    catch_signals()
    machine = Troubled()
    machine.client = OnATroubledMount(mounted, sshd, "example", Times(time.monotonic))
    machine.client.ttl = 0.05
    machine.client.slack = 0.05
    machine.client.wait = lambda seconds: None  # type: ignore[method-assign]
    machine.begin(machine.client, [(b"a.pt", 5_000)])
    machine.move_link(b"a.pt")
    yield machine
    machine.teardown()
    for number, handler in before:
        signal.signal(number, handler)


def test_an_honest_mount_has_no_fault_whatever_happens(machine: Troubled) -> None:
    machine.alarm(0.02)
    machine.flood()
    machine.pause(0.02)
    machine.read(b"a.pt", [])
    machine.read_link([])
    machine.move_link(b"nowhere")
    machine.read_link([])
    for kind in (Kind.DIRECTORY, Kind.FILE):
        for path in (b"d", b"a.pt"):
            machine.become(path, kind, 100)
            machine.look(path, [])
            machine.read(path, [])
        machine.list_names(b"d", [])
    handle = machine.open(b"a.pt")
    machine.change("append", b"a.pt", 10)
    machine.read_handle(handle, 0, 5_000, [])
    machine.follow(handle)


def fails(work: Callable[[], object]) -> str:
    """The kind of fault that it ends with."""
    with pytest.raises(AssertionError) as failure:
        work()
    return kind_of(failure.value)


def raising(number: int) -> Callable[..., Any]:
    """A call that fails so."""

    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_a_planted_wrong_byte_is_found(machine: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = machine.open(b"a.pt")
    honest = calls.pread

    def pread(file: int, length: int, offset: int) -> bytes:
        data = honest(file, length, offset)
        return data[:-1] + b"\0" if data else data

    monkeypatch.setattr(calls, "pread", pread)
    assert fails(lambda: machine.read(b"a.pt", [])) == "wrong"
    assert fails(lambda: machine.read_handle(handle, 0, 100, [])) == "wrong"


def test_bytes_of_two_versions_through_one_handle_are_found(
    machine: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = machine.open(b"a.pt")
    machine.read_handle(handle, 0, 100, [])
    machine.change("replace", b"a.pt", 5_000)
    monkeypatch.setattr(handle.handle, "_file", os.open(machine.client.at(b"a.pt"), os.O_RDONLY))
    assert fails(lambda: machine.read_handle(handle, 1_000, 100, [])) == "wrong"


def test_a_planted_stale_answer_is_found_and_a_pause_excuses_it_while_it_lasts(
    machine: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = machine.history.now(b"a.pt").data
    machine.change("write", b"a.pt", 4_000)
    machine.move_link(b"run.log")
    monkeypatch.setattr(machine.client, "read", lambda *_: old)
    monkeypatch.setattr(machine.client, "target", lambda *_: b"a.pt")
    monkeypatch.setattr(machine.client, "look", lambda *_: (Kind.FILE, 5_000))
    machine.pause(0.3)
    end = time.monotonic() + 0.25
    while time.monotonic() < end:  # longer than the TTL and the slack
        machine.read(b"a.pt", [])
    machine.client._end_pause()
    time.sleep(0.15)
    for work in (
        lambda: machine.read(b"a.pt", []),
        lambda: machine.look(b"a.pt", []),
        lambda: machine.read_link([]),
    ):
        assert fails(work) == "stale"


def test_a_long_pause_excuses_answers_of_any_age_and_a_short_one_does_not(
    machine: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.lab.troubled.OFFLINE", 0.1)
    monkeypatch.setattr("tests.lab.troubled.ONLINE", 0.0)
    old = machine.history.now(b"a.pt").data
    machine.change("write", b"a.pt", 4_000)
    monkeypatch.setattr(machine.client, "read", lambda *_: old)
    time.sleep(0.15)  # longer than the TTL and the slack
    machine.pause(0.05)
    assert fails(lambda: machine.read(b"a.pt", [])) == "stale"
    machine.pause(0.2)
    machine.read(b"a.pt", [])
    machine.client._end_pause()
    assert fails(lambda: machine.read(b"a.pt", [])) == "stale"


def test_a_planted_eintr_is_found(machine: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = machine.open(b"a.pt")
    monkeypatch.setattr(calls, "pread", raising(errno.EINTR))
    assert fails(lambda: machine.read(b"a.pt", [])) == "EINTR"
    assert fails(lambda: machine.read_handle(handle, 0, 100, [])) == "EINTR"


def test_a_signal_in_a_waiting_call_is_seen(machine: Troubled) -> None:
    os.mkfifo(machine.client.at(b"fifo"))
    machine.alarm(0.02)
    with pytest.raises(InterruptedError):
        machine.client.open(b"fifo")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ESTALE, "ESTALE without cause"),
        (errno.ENOENT, "wrong"),
        (errno.ETIMEDOUT, "wrong"),
        (errno.EIO, "wrong"),
    ],
)
def test_an_error_without_cause_is_found(
    machine: Troubled, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    monkeypatch.setattr("tests.lab.machine.SETTLING", 0.1)
    time.sleep(0.3)
    handle = machine.open(b"a.pt")
    monkeypatch.setattr(calls, "pread", raising(number))
    assert fails(lambda: machine.read_handle(handle, 0, 100, [])) == kind


def test_names_that_are_wrongly_listed_or_absent_are_found(
    machine: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.change("remove", b"link", 0)
    time.sleep(0.15)
    monkeypatch.setattr(machine.client, "names", lambda *_: {b"a.pt", b"d", b"link"})
    assert fails(lambda: machine.list_names(b"", [])) == "wrongly listed"
    monkeypatch.setattr(machine.client, "names", lambda *_: {b"d"})
    assert fails(lambda: machine.list_names(b"", [])) == "wrongly absent"


def test_a_call_that_takes_too_long_is_a_hang(machine: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_a_mount, "HANG", 0.0)
    assert fails(lambda: machine.read(b"a.pt", [])) == "hangs"


def test_the_fault_of_an_example_is_kept_for_the_count(machine: Troubled) -> None:
    try:
        raise AssertionError("EINTR for b'link'")
    except AssertionError:
        machine.teardown()
    assert [kind_of(fault) for fault in machine.client.faults] == ["EINTR"]


def test_each_kind_has_words_of_its_own() -> None:
    assert len(set(KINDS.values())) == len(KINDS)
