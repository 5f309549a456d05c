"""Keys, passphrases and agents."""

from __future__ import annotations

import logging
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.ssh_client import (
    PASSPHRASE,
    Person,
    Place,
    connected,
    fails,
    ssh_agent,
)
from tests.lab.sshd import Sshd, fingerprint, make_key
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.settings import Settings
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.stack import make_dialer


def test_a_key_that_the_server_does_not_know_is_named(place: Place, server: Sshd, tmp_path: Path) -> None:
    place.trust(server)
    stranger = make_key(tmp_path / "stranger")
    shown = f"{stranger} (ED25519 {fingerprint(stranger)})"
    fails(place.dialer(replace(server.address, keys=(str(stranger),))), errors.AuthRejected, shown)


def test_no_key_at_all_is_a_rejection(place: Place, server: Sshd) -> None:
    place.trust(server)
    place.configure("IdentityFile none\n")
    fails(place.dialer(replace(server.address, keys=())), errors.AuthRejected)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("form", ["openssh", "pem"])
def test_every_usual_kind_of_key_logs_in(
    place: Place, server: Sshd, tmp_path: Path, kind: str, form: str
) -> None:
    place.trust(server)
    key = make_key(tmp_path / "key", kind=kind)
    if form == "pem" and kind != "ed25519":
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "", "-m", "PEM", "-f", str(key)], check=True)
    server.authorize(key)
    with connected(place.dialer(replace(server.address, keys=(str(key),)))):
        pass


def test_the_key_that_worked_is_tried_first_the_next_time(place: Place, server: Sshd, tmp_path: Path) -> None:
    if place.kind is OpensshDialer:
        pytest.skip("ssh keeps its own order")
    place.trust(server)
    keys = [str(make_key(tmp_path / f"stranger-{n}")) for n in range(3)] + [str(server.user_key)]
    dialer = place.dialer(replace(server.address, keys=tuple(keys)))
    for _ in range(3):
        with connected(dialer):
            pass
    assert eventually(lambda: sum("Accepted publickey" in line for line in server.log) == 3)
    assert sum("Failed publickey" in line for line in server.log) == 3


def test_a_locked_key_is_unlocked_by_a_person_once(place: Place, server: Sshd, tmp_path: Path) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    person = Person(passphrases=["wrong", PASSPHRASE])
    dialer = place.dialer(replace(server.address, keys=(str(key),)), person)
    for _ in range(2):
        with connected(dialer):
            pass
    assert person.asked == [str(key)] * 2


def test_a_passphrase_is_asked_for_once_though_both_dialers_try(tmp_path: Path) -> None:
    """The server accepts the key, and wants a password besides, which neither dialer gives."""
    key = make_key(tmp_path / "locked", passphrase=PASSPHRASE)
    person = Person(passphrases=[PASSPHRASE, PASSPHRASE])
    options = (("UserKnownHostsFile", str(tmp_path / "known")), ("IdentitiesOnly", "yes"))
    server = Sshd(extra=["PasswordAuthentication yes", "AuthenticationMethods publickey,password"])
    server.authorize(key)
    settings = Settings(
        address=replace(server.address, keys=(str(key),), options=options),
        identity="test",
        cache_dir=tmp_path / "cache",
        known_hosts=tmp_path / "ours",
        accept_new_host_key=True,
    )
    with server, pytest.raises(errors.AuthRejected), connected(make_dialer(settings, person)):
        pass
    assert person.asked == [str(key)]


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_a_locked_key_of_any_form_is_recognised(
    place: Place, server: Sshd, tmp_path: Path, form: str
) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", kind="ecdsa")
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-a", "1", "-m", form, "-f", str(key)]
    subprocess.run(words, check=True)
    server.authorize(key)
    address = replace(server.address, keys=(str(key),))
    fails(place.dialer(address), errors.PassphraseNeeded, str(key))
    with connected(place.dialer(address, Person(passphrases=[PASSPHRASE]))):
        pass


def test_a_locked_key_that_nobody_unlocks_is_named(place: Place, server: Sshd, tmp_path: Path) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    address = replace(server.address, keys=(str(key),))
    fails(place.dialer(address), errors.PassphraseNeeded, str(key))
    fails(place.dialer(address, Person(passphrases=[None])), errors.PassphraseNeeded, str(key))


def test_time_in_which_a_person_thinks_does_not_count(place: Place, server: Sshd, tmp_path: Path) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", passphrase=PASSPHRASE)
    server.authorize(key)

    class Slow(Person):
        def passphrase(self, key_file: str) -> str | None:
            time.sleep(2.5)
            return PASSPHRASE

    with connected(place.dialer(replace(server.address, keys=(str(key),)), Slow()), timeout=2):
        pass


def test_a_key_file_that_others_can_read_is_refused_with_the_remedy(place: Place, server: Sshd) -> None:
    place.trust(server)
    server.user_key.chmod(0o644)
    fails(place.dialer(server.address), errors.KeyFileUnusable, f"chmod 600 {server.user_key}", "0644")


def test_a_key_file_that_is_not_there_is_named(place: Place, server: Sshd) -> None:
    place.trust(server)
    fails(
        place.dialer(replace(server.address, keys=("/no/such/key",))), errors.KeyFileUnusable, "/no/such/key"
    )


def test_the_agents_keys_log_in(
    place: Place, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.trust(server)
    place.configure("IdentityFile none\n")
    with (
        ssh_agent(tmp_path, monkeypatch, make_key(tmp_path / "stranger"), server.user_key),
        connected(place.dialer(replace(server.address, keys=()))),
    ):
        pass


def test_a_locked_key_that_the_agent_holds_needs_no_passphrase(
    place: Place, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.trust(server)
    with ssh_agent(tmp_path, monkeypatch, server.user_key):
        words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-a", "1", "-f", str(server.user_key)]
        subprocess.run(words, check=True)
        with connected(place.dialer(server.address)):
            pass


def test_an_agent_that_does_not_sign_leaves_the_turn_to_the_next_key(
    place: Place, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.trust(server)
    held = make_key(tmp_path / "held")
    server.authorize(held)
    with ssh_agent(tmp_path, monkeypatch):
        # -c: signing needs a yes in a window, and there is no window.
        monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
        subprocess.run(["ssh-add", "-q", "-c", str(held)], check=True, stdin=subprocess.DEVNULL)
        with connected(place.dialer(replace(server.address, keys=(str(held), str(server.user_key))))):
            pass


def test_no_passphrase_is_ever_logged(
    place: Place, server: Sshd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    caplog.set_level(logging.DEBUG)
    with connected(place.dialer(replace(server.address, keys=(str(key),)), Person(passphrases=[PASSPHRASE]))):
        pass
    assert caplog.records
    assert PASSPHRASE not in caplog.text
    assert "PRIVATE KEY" not in caplog.text
