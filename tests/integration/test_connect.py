"""`artisync connect` with every form of the ssh line, and what it asks on a terminal, against a real sshd."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import needs_fuse
from tests.lab.sshd import Sshd, make_key
from tests.lab.waiting import eventually
from vfs.remote.ssh.hostkeys import read_entries

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def gate() -> Iterator[Sshd]:
    """A second server, which one has to pass."""
    with Sshd() as gate:
        yield gate


@pytest.fixture
def client(server: Sshd, gate: Sshd, tmp_path: Path) -> Client:
    """Somebody whose `~/.ssh/config` knows both servers."""
    client = Client(server, tmp_path / "artifacts", tmp_path)
    (client.root / "exp-1").mkdir(parents=True)
    client.environment |= {"HOME": str(tmp_path / "home")}
    client.environment.pop("SSH_AUTH_SOCK", None)
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/config").write_text(
        "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
            f"  IdentityFile {sshd.user_key}\n"
            for name, sshd in (("cluster", server), ("gate", gate))
        )
    )
    return client


def options(client: Client) -> list[str]:
    return ["--remote-root", str(client.root), "--cache-dir", str(client.cache)]


def profiles(client: Client) -> list[Path]:
    return list(client.place.glob("config/artisync/profiles/*"))


def known(client: Client) -> list[str]:
    """The fingerprints of the host keys that were accepted."""
    return [e.key.fingerprint for e in read_entries(client.place / "config/artisync/known_hosts")]


# --- the line ---------------------------------------------------------------------------------------------------------

Form = Callable[[Sshd], list[str]]

FORMS: dict[str, Form] = {
    "quoted": lambda s: [f"ssh -p {s.port} -i {s.user_key} {s.user}@127.0.0.1"],
    "unquoted": lambda s: ["--", "ssh", "-p", f"{s.port}", "-i", f"{s.user_key}", f"{s.user}@127.0.0.1"],
    "url": lambda s: [f"ssh -i {s.user_key} ssh://{s.user}@127.0.0.1:{s.port}"],
    "options": lambda s: [
        *("--", "ssh", "-l", s.user, "-o", f"Port={s.port}", "-oHostName=127.0.0.1"),
        *("-o", f"IdentityFile {s.user_key}", "-o", "IdentitiesOnly=yes", "somewhere"),
    ],
    "alias": lambda s: ["ssh cluster"],
    "jump": lambda s: [
        "--",
        "ssh",
        "-J",
        "gate",
        "-p",
        f"{s.port}",
        "-i",
        f"{s.user_key}",
        f"{s.user}@127.0.0.1",
    ],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_line_of_any_form_is_connected_to_and_remembered(client: Client, server: Sshd, form: Form) -> None:
    done = client.artisync("connect", "--accept-new-host-key", *options(client), *form(server))
    assert done.returncode == 0, done.stderr
    listed = client.artisync("ls")
    assert (listed.returncode, listed.stdout.split("\t")[0]) == (0, "exp-1"), listed.stderr


def test_a_jump_host_is_passed(client: Client, server: Sshd, gate: Sshd) -> None:
    before = len(gate.log)
    done = client.artisync("connect", "--accept-new-host-key", *options(client), *FORMS["jump"](server))
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: any("Accepted publickey" in line for line in gate.log[before:]))
    assert len(known(client)) == 2


# --- questions --------------------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_shown_and_a_yes_connects(client: Client, server: Sshd) -> None:
    with client.at_terminal("connect", *options(client), "ssh cluster") as terminal:
        terminal.sees(f"key is\r\n  {server.fingerprint}")
        terminal.sees("[yes/no] ")
        terminal.types("certainly")
        terminal.sees("[yes/no] ")
        terminal.types("yes")
        assert terminal.ended() == 0
    assert "Saved as profile default." in terminal.said
    assert [path.name for path in profiles(client)] == ["default.json"]
    assert known(client) == [server.fingerprint]


def test_a_no_saves_nothing(client: Client, server: Sshd) -> None:
    with client.at_terminal("connect", *options(client), "ssh cluster") as terminal:
        terminal.sees("[yes/no] ")
        terminal.types("no")
        assert terminal.ended() == 1
    assert "it was not accepted" in terminal.said
    assert (profiles(client), known(client)) == ([], [])


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 1)])
def test_a_changed_host_key_is_shown_beside_the_old_one_and_replaced_by_a_yes(
    client: Client, server: Sshd, gate: Sshd, answer: str, code: int
) -> None:
    file = client.place / "config/artisync/known_hosts"
    file.parent.mkdir(parents=True)
    file.write_text(gate.host_line.replace(f":{gate.port} ", f":{server.port} "))
    with client.at_terminal("connect", "--replace-host-key", *options(client), "ssh cluster") as terminal:
        terminal.sees(f"before: {gate.fingerprint}")
        terminal.sees(f"now:    {server.fingerprint}")
        terminal.sees("[yes/no] ")
        terminal.types(answer)
        assert terminal.ended() == code
    assert known(client) == [(gate if code else server).fingerprint]
    assert len(profiles(client)) == 1 - code


@pytest.fixture
def locked(client: Client, server: Sshd) -> str:
    """The line with a key that has a passphrase."""
    key = make_key(client.place / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    return replace(client.address, keys=(str(key),)).line()


def test_a_passphrase_is_asked_for_until_it_fits_and_never_shown(client: Client, locked: str) -> None:
    with client.at_terminal("connect", "--accept-new-host-key", *options(client), locked) as terminal:
        for passphrase in ("wrong", PASSPHRASE):
            terminal.sees(f"Passphrase for the key {client.place}/locked: ")
            terminal.types(passphrase)
        assert terminal.ended() == 0
    assert PASSPHRASE not in terminal.said
    assert "wrong" not in terminal.said
    assert not any(PASSPHRASE in path.read_text() for path in profiles(client))


def test_passphrases_that_do_not_fit_end_in_the_next_step(client: Client, locked: str) -> None:
    with client.at_terminal("connect", "--accept-new-host-key", *options(client), locked) as terminal:
        for _ in range(3):
            terminal.sees("Passphrase for the key")
            terminal.types("wrong")
        assert terminal.ended() == 1
    assert terminal.said.count("Passphrase for the key") == 3
    assert "wrong passphrase for the key" in terminal.said
    assert "ssh-add" in terminal.said
    assert profiles(client) == []


@needs_fuse
def test_a_mount_asks_before_it_goes_into_the_background(client: Client, locked: str) -> None:
    place = client.place / "mnt"
    with client.at_terminal("mount", "--ssh", locked, *options(client), place) as terminal:
        terminal.sees("[yes/no] ")
        terminal.types("yes")
        terminal.sees("Passphrase for the key")
        terminal.types(PASSPHRASE)
        assert terminal.ended() == 0
    try:
        assert os.listdir(place) == ["exp-1"]
    finally:
        assert client.artisync("unmount", place).returncode == 0
