"""Servers that do not answer as they should, and what is said of them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.lab.listener import listener
from tests.lab.ssh_client import (
    Place,
    children,
    fails,
)
from tests.lab.sshd import Sshd, free_port, make_key
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.sftp.pool import Pool
from vfs.remote.ssh.transport import Dialer


def test_a_port_at_which_nothing_listens_is_refused(place: Place) -> None:
    fails(place.dialer(Address("127.0.0.1", free_port(), "me"), accept_new=True), errors.Refused)


def test_a_name_that_does_not_exist_is_unknown(place: Place) -> None:
    fails(
        place.dialer(Address("no-such-host.invalid", 22, "me"), accept_new=True),
        errors.UnknownHost,
        "no-such-host",
    )


def silent() -> AbstractContextManager[int]:
    return listener(lambda connection: None)


def only_a_greeting() -> AbstractContextManager[int]:
    return listener(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"))


@pytest.mark.parametrize("kind_of_silence", [silent, only_a_greeting])
@pytest.mark.parametrize("known", [True, False])
def test_a_port_that_says_nothing_is_no_answer_within_the_timeout(
    place: Place, kind_of_silence: Callable[[], AbstractContextManager[int]], known: bool, tmp_path: Path
) -> None:
    before = children()
    with kind_of_silence() as port:
        if known:
            kind, blob = Path(f"{make_key(tmp_path / 'k')}.pub").read_text().split()[:2]
            place.theirs.write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
        began = time.monotonic()
        fails(place.dialer(Address("127.0.0.1", port, "me"), accept_new=True), errors.NoAnswer, timeout=1.5)
        assert time.monotonic() - began < 5
    assert eventually(lambda: children() == before)


def test_what_is_no_ssh_server_is_said_to_be_none(place: Place) -> None:
    def web(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)

    with listener(web) as port:
        fails(place.dialer(Address("127.0.0.1", port, "me"), accept_new=True), errors.HungUp)


def test_a_server_that_hangs_up_at_once_is_said_to_do_so(place: Place) -> None:
    with listener(socket.socket.close) as port:
        address = Address("127.0.0.1", port, "me")
        fails(place.dialer(address, accept_new=True), errors.HungUp, "the connection was closed")


def test_a_server_without_sftp_is_said_to_have_none(place: Place) -> None:
    with Sshd(extra=["Subsystem other /bin/true"]) as server:
        place.trust(server)
        fails(place.dialer(server.address), errors.NoSftp, "offers no SFTP")


def test_a_server_whose_sftp_program_is_missing_is_said_to_miss_it(place: Place) -> None:
    with Sshd(extra=["Subsystem sftp /no/such/program"]) as server:
        place.trust(server)
        fails(place.dialer(server.address), errors.NoSftp)


def test_a_server_that_prints_text_instead_of_sftp_is_quoted(place: Place) -> None:
    async def connect(dialer: Dialer) -> None:
        pool = Pool(dialer, timeout=10)
        try:
            await pool.connect(keep_trying=False)
        finally:
            await pool.aclose()

    with Sshd(extra=["Subsystem sftp /bin/echo Welcome to the gateway"]) as server:
        place.trust(server)
        with pytest.raises(errors.NoSftp, match="Welcome to the gateway"):
            asyncio.run(connect(place.dialer(server.address)))


@pytest.mark.parametrize("second", ["password", "keyboard-interactive"])
def test_a_second_factor_that_is_wanted_is_named(place: Place, second: str) -> None:
    extra = [f"AuthenticationMethods publickey,{second}", "PasswordAuthentication yes"]
    with Sshd(extra=[*extra, "KbdInteractiveAuthentication yes"]) as server:
        place.trust(server)
        fails(place.dialer(server.address), errors.AuthRejected, f"requires {second} beside", "ControlMaster")
