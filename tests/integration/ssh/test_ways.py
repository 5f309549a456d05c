"""Jump hosts and ProxyCommands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.ssh_client import (
    Person,
    Place,
    children,
    connected,
    fails,
)
from tests.lab.sshd import Sshd, fingerprint, free_port
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer


@pytest.fixture
def gate() -> Iterator[Sshd]:
    with Sshd() as gate:
        yield gate


def through(place: Place, gate: Sshd) -> None:
    place.configure(f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.user_key}\n")


def test_a_jump_host_is_verified_and_logged_in_to_as_well(place: Place, server: Sshd, gate: Sshd) -> None:
    through(place, gate)
    person = Person()
    dialer = place.dialer(replace(server.address, jump=f"{gate.user}@gate"), person)
    for _ in range(2):
        with connected(dialer):
            pass
    assert [new for new, _ in person.shown] == [fingerprint(gate.host_key), fingerprint(server.host_key)]
    assert any("Accepted publickey" in line for line in gate.log)


def test_a_jump_host_of_the_configuration_is_passed(place: Place, server: Sshd, gate: Sshd) -> None:
    place.trust(server)
    place.trust(gate)
    place.configure(
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.user_key}\n"
        f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n  ProxyJump gate\n"
    )
    with connected(place.dialer(replace(server.address, host="box", port=None))):
        assert eventually(lambda: any("direct-tcpip" in line or "Accepted" in line for line in gate.log))


def test_two_jump_hosts_are_passed_in_their_order(place: Place, server: Sshd, gate: Sshd) -> None:
    through(place, gate)
    place.trust(server)
    place.trust(gate)
    with connected(place.dialer(replace(server.address, jump="gate,gate"))):
        pass
    assert sum("Accepted publickey" in line for line in gate.log) == 2


def test_an_unknown_jump_host_is_refused_before_the_host_is_reached(
    place: Place, server: Sshd, gate: Sshd
) -> None:
    through(place, gate)
    place.trust(server)
    fails(
        place.dialer(replace(server.address, jump="gate")), errors.HostKeyUnknown, fingerprint(gate.host_key)
    )
    assert not any("Connection from" in line for line in server.log)


def test_a_host_that_refuses_the_jump_host_is_refused(place: Place, gate: Sshd) -> None:
    through(place, gate)
    place.trust(gate)
    address = Address("127.0.0.1", free_port(), "me", jump="gate")
    fails(place.dialer(address, accept_new=True), errors.Refused)


def test_jump_hosts_in_a_circle_are_found_out(place: Place) -> None:
    place.configure("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    fails(place.dialer(Address("a", 22, "me")), errors.ConnectError, "form a loop")


RELAY = """
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    os.write(1, data)
"""


def test_a_proxy_command_makes_the_connection_and_ends_with_it(
    place: Place, server: Sshd, tmp_path: Path
) -> None:
    before = children()
    (tmp_path / "relay.py").write_text(RELAY)
    place.theirs.write_text("box " + server.host_line.split(" ", 1)[1])
    place.configure(
        f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n  HostKeyAlias box\n"
        f"  ProxyCommand {sys.executable} {tmp_path}/relay.py %h %p\n"
    )
    with connected(place.dialer(replace(server.address, host="box", port=None))):
        assert len(children()) == len(before) + 1
    assert eventually(lambda: children() == before)


def test_a_proxy_command_of_the_line_counts_too(place: Place, server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    place.trust(server)
    command = f"{sys.executable} {tmp_path}/relay.py %h %p"
    with connected(place.dialer(replace(server.address, options=(("ProxyCommand", command),)))):
        pass


def test_the_last_words_of_a_proxy_command_are_told(place: Place, server: Sshd) -> None:
    place.trust(server)
    command = "sh -c 'echo the bridge is up >&2; exit 3'"
    address = replace(server.address, options=(("ProxyCommand", command),))
    dialer = place.dialer(address)
    if place.kind is ParamikoDialer:
        fails(dialer, errors.ConnectError, "the bridge is up")
    else:
        fails(dialer, errors.HungUp, "the bridge is up")
