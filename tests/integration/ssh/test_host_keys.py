"""Which host keys are taken, shown, kept and refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.ssh_client import (
    Person,
    Place,
    connected,
    fails,
)
from tests.lab.sshd import Sshd, fingerprint, make_key
from vfs.base import errors
from vfs.remote.ssh.openssh import OpensshDialer


def test_an_unknown_host_key_is_refused_when_nobody_can_be_asked(place: Place, server: Sshd) -> None:
    fails(place.dialer(server.address), errors.HostKeyUnknown, fingerprint(server.host_key))
    assert not place.ours.exists()


def test_an_unknown_host_key_is_shown_and_kept_when_it_is_accepted(place: Place, server: Sshd) -> None:
    person = Person()
    dialer = place.dialer(server.address, person)
    for _ in range(2):
        with connected(dialer):
            pass
    assert person.shown == [(fingerprint(server.host_key), None)]
    with connected(place.dialer(server.address)):
        pass
    assert not place.theirs.exists()


def test_an_accepted_host_key_that_cannot_be_written_is_asked_about_once(
    place: Place, server: Sshd, tmp_path: Path
) -> None:
    if place.kind is OpensshDialer:
        pytest.skip("ssh knows what is in the file")
    (tmp_path / "no directory").write_text("")
    place.ours = tmp_path / "no directory/known_hosts"
    person = Person()
    dialer = place.dialer(server.address, person)
    for _ in range(2):
        with connected(dialer):
            pass
    assert len(person.shown) == 1


def test_an_unknown_host_key_that_is_declined_is_refused(place: Place, server: Sshd) -> None:
    fails(place.dialer(server.address, Person(accepts=False)), errors.HostKeyUnknown, "not accepted")


def test_new_host_keys_are_accepted_unasked_when_that_is_wanted(place: Place, server: Sshd) -> None:
    with connected(place.dialer(server.address, accept_new=True)):
        pass
    assert place.ours.read_text() == server.host_line


def test_a_changed_host_key_is_refused_with_both_fingerprints(place: Place, server: Sshd) -> None:
    place.trust(server)
    old = fingerprint(server.host_key)
    server.stop()
    server.new_host_key()
    server.start()
    new = fingerprint(server.host_key)
    fails(place.dialer(server.address, accept_new=True), errors.HostKeyChanged, old, new, f"{place.theirs}:1")
    assert not place.ours.exists()


def test_a_changed_host_key_is_replaced_when_a_person_says_so(place: Place, server: Sshd) -> None:
    place.trust(server)
    old = fingerprint(server.host_key)
    server.stop()
    server.new_host_key()
    server.start()
    person = Person()
    with connected(place.dialer(server.address, person, replace_key=True)):
        pass
    assert person.shown == [(fingerprint(server.host_key), old)]
    with connected(place.dialer(server.address)):
        pass


def test_a_revoked_host_key_is_refused(place: Place, server: Sshd) -> None:
    place.theirs.write_text(server.host_line + "@revoked * " + server.host_line.split(" ", 1)[1])
    fails(place.dialer(server.address, accept_new=True), errors.HostKeyRevoked)


def test_a_host_vouched_for_by_an_authority_is_only_for_openssh(place: Place, tmp_path: Path) -> None:
    authority, host = make_key(tmp_path / "ca"), make_key(tmp_path / "host")
    words = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-h", "-n", "127.0.0.1", f"{host}.pub"]
    subprocess.run(words, check=True)
    with Sshd(extra=[f"HostKey {host}", f"HostCertificate {host}-cert.pub"]) as server:
        place.theirs.write_text("@cert-authority * " + Path(f"{authority}.pub").read_text())
        dialer = place.dialer(server.address, accept_new=True)
        if place.kind is OpensshDialer:
            with connected(dialer):
                pass
        else:
            fails(dialer, errors.NeedsOpenssh, "certificate authority")


def test_the_server_is_asked_for_the_kind_of_host_key_that_is_known(place: Place, tmp_path: Path) -> None:
    ecdsa = make_key(tmp_path / "ecdsa", kind="ecdsa")
    with Sshd(extra=[f"HostKey {ecdsa}"]) as server:
        kind, blob = Path(f"{ecdsa}.pub").read_text().split()[:2]
        place.theirs.write_text(f"[127.0.0.1]:{server.port} {kind} {blob}\n")
        with connected(place.dialer(server.address)):
            pass
