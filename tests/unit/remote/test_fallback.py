"""Paramiko, and the system's ssh where paramiko does not get in: which of them makes the connections, and whose error is told."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from unittest import mock

import pytest

from vfs.base import errors
from vfs.base.errors import ConnectError
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.fallback import FallbackDialer
from vfs.remote.ssh.transport import Transport, TransportName


@dataclass
class Dialer:
    """Fails with `error`, if there is one."""

    transport: TransportName
    error: ConnectError | None
    dialled: int = 0
    login: str = ""

    @property
    def window_limited(self) -> bool:
        return self.transport == "openssh"

    def destination(self, timeout: float) -> Destination:
        raise AssertionError

    def dial(self, timeout: float) -> Transport:
        self.dialled += 1
        if self.error is not None:
            raise self.error
        return mock.Mock()


def both(
    first: ConnectError | None, second: ConnectError | None = None, *, asked: bool = False
) -> tuple[FallbackDialer, Dialer, Dialer]:
    paramiko, ssh = Dialer("paramiko", first), Dialer("openssh", second)
    return FallbackDialer(paramiko, ssh, asked=asked), paramiko, ssh


def outcome(dialer: FallbackDialer) -> ConnectError | None:
    """What a connection ends with."""
    try:
        dialer.dial(5)
    except ConnectError as error:
        return error
    return None


@pytest.fixture(autouse=True)
def ssh_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    "error",
    [
        errors.AuthRejected("x"),
        errors.KeyFileUnusable("x"),
        errors.PassphraseNeeded("x"),
        errors.ConnectError("no Match here"),
        errors.NeedsOpenssh("x"),
        errors.UnknownHost("x"),
        errors.HungUp("x"),
    ],
)
def test_where_paramiko_does_not_get_in_and_ssh_does_ssh_stays_and_it_is_said_once(
    error: ConnectError, caplog: pytest.LogCaptureFixture
) -> None:
    dialer, paramiko, ssh = both(error)
    assert dialer.transport == "paramiko"
    with caplog.at_level(logging.WARNING):
        assert [outcome(dialer), outcome(dialer)] == [None, None]
    assert (paramiko.dialled, ssh.dialled) == (1, 2)
    assert (dialer.transport, dialer.window_limited) == ("openssh", True)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "error",
    [errors.Refused("x"), errors.NoAnswer("x"), errors.HostKeyUnknown("x"), errors.HostKeyChanged("x")],
)
def test_where_ssh_would_do_no_better_it_is_not_tried(error: ConnectError) -> None:
    dialer, _, ssh = both(error)
    assert outcome(dialer) is error
    assert ssh.dialled == 0


def test_a_passphrase_that_a_person_does_not_know_is_not_asked_for_again() -> None:
    error = errors.PassphraseNeeded("x")
    dialer, _, ssh = both(error, asked=True)
    assert outcome(dialer) is error
    assert ssh.dialled == 0


def test_where_neither_gets_in_the_error_is_paramikos_unless_it_is_of_paramiko_alone() -> None:
    first, second = errors.AuthRejected("keys: a, b"), errors.ConnectError("ssh: exit 255")
    assert outcome(both(first, second)[0]) is first
    assert outcome(both(errors.NeedsOpenssh("x"), second)[0]) is second


def test_once_paramiko_has_got_in_ssh_is_not_tried() -> None:
    dialer, paramiko, ssh = both(None)
    assert outcome(dialer) is None
    paramiko.error = errors.HungUp("x")
    assert outcome(dialer) is paramiko.error
    assert ssh.dialled == 0


def test_without_ssh_on_the_machine_there_is_no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    dialer, _, ssh = both(errors.AuthRejected("x"))
    assert isinstance(outcome(dialer), errors.AuthRejected)
    assert ssh.dialled == 0
