"""Which host keys are trusted, and what is written where."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from vfs.base import errors
from vfs.remote.ssh.hostkeys import HostKey, KnownHosts, host_name

HOST = "[box.example]:30022"


def key(seed: int, kind: str = "ssh-ed25519") -> HostKey:
    name = kind.encode()
    return HostKey(kind, len(name).to_bytes(4, "big") + name + b"\0\0\0\x20" + bytes([seed]) * 32)


def line(names: str, k: HostKey, marker: str = "") -> str:
    return f"{marker} {names} {k.kind} {base64.b64encode(k.blob).decode()} a comment\n".lstrip()


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


class Person:
    """Answers like a person at a terminal, and remembers what was shown."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str, str | None]] = []

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        self.asked.append((host, kind, fingerprint, old_fingerprint))
        return self.answer

    def passphrase(self, key_file: str) -> str | None:
        raise AssertionError("a host key needs no passphrase")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_hosts"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return tmp_path / "user_known_hosts"


@pytest.fixture
def known(ours: Path, theirs: Path) -> KnownHosts:
    return KnownHosts(ours, [theirs])


def test_a_name_carries_its_port_unless_it_is_22() -> None:
    assert host_name("Box.Example", 22) == "box.example"
    assert host_name("Box.Example", 30022) == HOST
    assert host_name("Box.Example", 30022, alias="Rack") == "rack"


def test_a_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    kind, blob = (tmp_path / "k.pub").read_text().split()[:2]
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True, check=True
    )
    found = HostKey(kind, base64.b64decode(blob))
    assert found.fingerprint in shown.stdout.split()
    assert found.label == "ED25519"


@pytest.mark.parametrize(
    ("names", "name", "known_there"),
    [
        ("box.example", "box.example", True),
        ("BOX.example", "box.example", True),
        ("other,[box.example]:30022", HOST, True),
        ("[box.example]:30023", HOST, False),
        ("*.example", "box.example", True),
        ("b?x.example", "box.example", True),
        ("[*.example]:30022", HOST, True),
        ("*.example,!box.example", "box.example", False),
        (hashed(HOST), HOST, True),
        (hashed("box.example"), "other.example", False),
        ("|1|rubbish|rubbish", HOST, False),
        ("box.example", HOST, True),
    ],
)
def test_a_line_of_the_users_file_is_about_a_host(
    known: KnownHosts, theirs: Path, names: str, name: str, known_there: bool
) -> None:
    theirs.write_text("# a comment\n\nnot a line\n" + line(names, key(1)))
    assert known.check(name, key(1)) is known_there


def test_a_key_known_for_port_22_does_not_forbid_another_on_another_port(
    known: KnownHosts, theirs: Path
) -> None:
    theirs.write_text(line("box.example", key(1)))
    assert known.check(HOST, key(2)) is False


def test_the_kinds_that_are_known_are_told_so_that_the_server_is_asked_for_them(
    known: KnownHosts, theirs: Path
) -> None:
    theirs.write_text(line(HOST, key(1, "ssh-rsa")) + line(HOST, key(1, "ecdsa-sha2-nistp256")))
    assert known.kinds(HOST) == ["ssh-rsa", "ecdsa-sha2-nistp256"]


def test_an_unknown_key_is_refused_when_nobody_can_be_asked(known: KnownHosts, ours: Path) -> None:
    with pytest.raises(errors.HostKeyUnknown, match=key(1).fingerprint):
        known.verify(HOST, key(1))
    assert not ours.exists()


def test_an_unknown_key_that_a_person_accepts_is_kept_in_our_file_only(
    known: KnownHosts, ours: Path, theirs: Path
) -> None:
    person = Person(True)
    known.verify(HOST, key(1), prompter=person)
    known.verify(HOST, key(1), prompter=person)
    assert person.asked == [(HOST, "ED25519", key(1).fingerprint, None)]
    assert KnownHosts(ours).check(HOST, key(1)) is True
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert stat.S_IMODE(ours.parent.stat().st_mode) == 0o700
    assert not theirs.exists()


def test_an_unknown_key_that_a_person_declines_is_refused(known: KnownHosts, ours: Path) -> None:
    with pytest.raises(errors.HostKeyUnknown, match="not accepted"):
        known.verify(HOST, key(1), prompter=Person(False))
    assert not ours.exists()


def test_accepting_new_ones_accepts_no_changed_one(known: KnownHosts, ours: Path) -> None:
    known.verify(HOST, key(1), accept_new=True)
    with pytest.raises(errors.HostKeyChanged) as caught:
        known.verify(HOST, key(2), accept_new=True, prompter=Person(True))
    assert key(1).fingerprint in str(caught.value)
    assert key(2).fingerprint in str(caught.value)
    assert f"{ours}:1" in str(caught.value)


def test_another_kind_of_key_than_the_known_one_is_a_changed_key(known: KnownHosts) -> None:
    known.verify(HOST, key(1), accept_new=True)
    with pytest.raises(errors.HostKeyChanged):
        known.verify(HOST, key(1, "ssh-rsa"), accept_new=True)


def test_a_change_against_the_users_file_names_its_line_and_how_to_forget_it(
    known: KnownHosts, theirs: Path
) -> None:
    theirs.write_text("\n" + line(hashed(HOST), key(1)))
    with pytest.raises(errors.HostKeyChanged) as caught:
        known.verify(HOST, key(2))
    assert f"{theirs}:2" in str(caught.value)
    assert f"ssh-keygen -f {theirs} -R '{HOST}'" in str(caught.value)


def test_a_replacement_shows_both_fingerprints_and_is_kept(known: KnownHosts, ours: Path) -> None:
    known.verify("other", key(9), accept_new=True)
    known.verify(HOST, key(1), accept_new=True)
    person = Person(True)
    known.verify(HOST, key(2), replace=True, prompter=person)
    assert person.asked == [(HOST, "ED25519", key(2).fingerprint, key(1).fingerprint)]
    fresh = KnownHosts(ours)
    assert fresh.check(HOST, key(2)) is True
    assert fresh.check("other", key(9)) is True
    with pytest.raises(errors.HostKeyChanged):
        fresh.check(HOST, key(1))


def test_a_replacement_that_is_declined_changes_nothing(known: KnownHosts, ours: Path) -> None:
    known.verify(HOST, key(1), accept_new=True)
    before = ours.read_text()
    with pytest.raises(errors.HostKeyChanged):
        known.verify(HOST, key(2), replace=True, prompter=Person(False))
    with pytest.raises(errors.NobodyToAsk) as nobody:
        known.verify(HOST, key(2), replace=True)
    assert "on a terminal" in nobody.value.hint
    assert "--replace-host-key" not in nobody.value.hint, "that was just given"
    assert ours.read_text() == before


def test_our_file_counts_over_an_old_line_in_the_users_file_which_stays_as_it_is(
    known: KnownHosts, ours: Path, theirs: Path
) -> None:
    theirs.write_text(line(HOST, key(1)))
    known.verify(HOST, key(2), replace=True, prompter=Person(True))
    assert KnownHosts(ours, [theirs]).check(HOST, key(2)) is True
    assert theirs.read_text() == line(HOST, key(1))


def test_a_replacement_keeps_what_it_does_not_understand(known: KnownHosts, ours: Path) -> None:
    ours.parent.mkdir()
    ours.write_text("# mine\n" + line("*.example", key(3)) + line(HOST, key(1)))
    known.verify(HOST, key(2), replace=True, prompter=Person(True))
    assert ours.read_text().startswith("# mine\n" + line("*.example", key(3)))
    assert base64.b64encode(key(1).blob).decode() not in ours.read_text()


@pytest.mark.parametrize("accept_new", [True, False])
def test_a_revoked_key_is_refused_whatever_else_is_said(
    known: KnownHosts, theirs: Path, accept_new: bool
) -> None:
    theirs.write_text(line(HOST, key(1)) + line("*", key(1), "@revoked"))
    with pytest.raises(errors.HostKeyRevoked, match=f"{theirs}:2"):
        known.verify(HOST, key(1), accept_new=accept_new, replace=True, prompter=Person(True))


def test_a_host_vouched_for_by_an_authority_is_refused_with_the_way_out(
    known: KnownHosts, theirs: Path
) -> None:
    theirs.write_text(line("[*.example]:30022", key(5), "@cert-authority"))
    with pytest.raises(errors.NeedsOpenssh, match="certificate authority"):
        known.verify(HOST, key(1), accept_new=True)


def test_keys_accepted_at_the_same_time_are_all_kept(ours: Path) -> None:
    start = threading.Barrier(8)

    def accept(n: int) -> None:
        start.wait()
        KnownHosts(ours).verify(f"host-{n}", key(n), accept_new=True)

    threads = [threading.Thread(target=accept, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(KnownHosts(ours).check(f"host-{n}", key(n)) for n in range(8))
    assert [p.name for p in ours.parent.iterdir()] == ["known_hosts"]


def test_a_key_is_trusted_for_this_run_when_our_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = KnownHosts(tmp_path / "file" / "known_hosts")
    known.verify(HOST, key(1), accept_new=True)
    known.verify(HOST, key(1))
