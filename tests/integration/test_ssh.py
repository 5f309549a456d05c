"""Both dialers against a real sshd: what gets through, and what is said when something does not."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.listener import listener
from tests.lab.sshd import Sshd, fingerprint, free_port, make_key
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.sftp.connection import Connection
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer
from vfs.remote.ssh.pipe_stream import PipeStream
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import Transport

AnyDialer = type[ParamikoDialer] | type[OpensshDialer]

PASSPHRASE = "correct horse battery staple"


class Person:
    """Somebody at a terminal, with answers prepared."""

    def __init__(self, *, accepts: bool = True, passphrases: list[str | None] | None = None) -> None:
        self.accepts = accepts
        self.passphrases = passphrases or []
        self.shown: list[tuple[str, str | None]] = []
        self.asked: list[str] = []

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        self.shown.append((fingerprint, old_fingerprint))
        return self.accepts

    def passphrase(self, key_file: str) -> str | None:
        self.asked.append(key_file)
        return self.passphrases.pop(0) if self.passphrases else None


class Place:
    """A user's machine: our known_hosts, the user's, a configuration of ssh, and one of the two dialers."""

    def __init__(self, directory: Path, kind: AnyDialer) -> None:
        self.directory = directory
        self.kind = kind
        self.ours = directory / "ours" / "known_hosts"
        self.theirs = directory / "user_known_hosts"
        self.config = directory / "config"
        self.configure("")

    def configure(self, text: str) -> None:
        self.config.write_text(f"{text}\nHost *\n  UserKnownHostsFile {self.theirs}\n")

    def trust(self, server: Sshd) -> None:
        with self.theirs.open("a") as f:
            f.write(server.host_line)

    def dialer(
        self,
        address: Address,
        person: Person | None = None,
        *,
        accept_new: bool = False,
        replace_key: bool = False,
    ) -> ParamikoDialer | OpensshDialer:
        return self.kind(
            address,
            self.ours,
            prompter=person,
            accept_new=accept_new,
            replace=replace_key,
            ssh_config=self.config,
        )


@pytest.fixture(params=[ParamikoDialer, OpensshDialer], ids=["paramiko", "openssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Place(tmp_path, request.param)


@pytest.fixture
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


def shake_hands(stream: Transport) -> None:
    """SFTP's INIT and VERSION (draft-ietf-secsh-filexfer-02, section 4); the error of a stream that ends
    instead."""
    stream.send(struct.pack(">IBI", 5, 1, 3))
    buffer = memoryview(bytearray(4096))
    count = stream.recv_into([buffer])
    if count == 0:
        assert stream.error is not None
        raise stream.error
    while count < 9:
        count += stream.recv_into([buffer[count:]])
    assert (buffer[4], bytes(buffer[5:9])) == (2, b"\0\0\0\3")
    assert stream.error is None


@contextmanager
def connected(dialer: ParamikoDialer | OpensshDialer, timeout: float = 10) -> Iterator[Transport]:
    stream = dialer.dial(timeout)
    try:
        shake_hands(stream)
        yield stream
    finally:
        stream.close()


def fails(
    dialer: ParamikoDialer | OpensshDialer, kind: type[errors.ConnectError], *said: str, timeout: float = 10
) -> str:
    """The connection fails with that very class; its text holds `said`."""
    with pytest.raises(errors.ConnectError) as caught, connected(dialer, timeout):
        pass
    text = str(caught.value)
    assert type(caught.value) is kind, text
    for part in said:
        assert part in text
    return text


def children() -> list[int]:
    """Our child processes that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(entry.name))
    return found


# --- what works
# ---------------------------------------------------------------------------------------------------


def test_a_server_speaks_sftp_at_the_other_end(place: Place, server: Sshd) -> None:
    place.trust(server)
    dialer = place.dialer(server.address)
    for _ in range(2):
        with connected(dialer):
            pass
    assert dialer.window_limited is (place.kind is OpensshDialer)


def test_a_connection_that_was_lost_keeps_no_buffers(place: Place, server: Sshd) -> None:
    async def lose() -> Connection:
        lost = asyncio.Event()
        stream = await asyncio.to_thread(place.dialer(server.address, accept_new=True).dial, 10)
        connection = Connection(stream, lambda _: lost.set())
        await connection.start()
        server.kill_sessions()
        async with asyncio.timeout(10):
            await lost.wait()
        return connection

    buffers = [tracemalloc.Filter(True, f"*/{name}.py") for name in ("ssh_packets", "decoder")]
    tracemalloc.start()
    try:
        kept = asyncio.run(lose())

        def held() -> int:
            return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(buffers).traces)

        assert eventually(lambda: held() < 10_000), f"{kept} holds {held()} bytes"
    finally:
        tracemalloc.stop()


def test_megabytes_come_through_in_order_while_the_server_changes_its_keys(
    place: Place, tmp_path: Path
) -> None:
    content = os.urandom(6 << 20)
    (tmp_path / "data").write_bytes(content)
    with Sshd(tmp_path, extra=["RekeyLimit 1M"]) as server:
        place.trust(server)
        with connected(place.dialer(server.address)) as stream:
            assert read_file(stream, str(tmp_path / "data").encode(), len(content)) == content


def read_file(stream: Transport, path: bytes, size: int) -> bytes:
    """A file by raw SFTP, many READs of 32 KiB in flight."""

    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    def receive(count: int) -> bytes:
        data = bytearray(count)
        done = 0
        while done < count:
            got = stream.recv_into([memoryview(data)[done:]])
            assert got > 0
            done += got
        return bytes(data)

    def answer() -> bytes:
        return receive(struct.unpack(">I", receive(4))[0])

    stream.send(string(b"\x03" + struct.pack(">I", 1) + string(path) + struct.pack(">II", 1, 0)))
    handle = string(answer()[9:])
    step = 32 << 10
    for number in range(size // step):
        stream.send(
            string(b"\x05" + struct.pack(">I", number) + handle + struct.pack(">QI", number * step, step))
        )
    parts = {}
    for _ in range(size // step):
        packet = answer()
        assert packet[0] == 103
        parts[struct.unpack(">I", packet[1:5])[0]] = packet[9:]
    return b"".join(parts[n] for n in range(size // step))


def test_an_alias_of_the_users_configuration_is_a_host(place: Place, server: Sshd) -> None:
    place.configure(
        f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n"
        f"  IdentityFile {server.user_key}\n  HostKeyAlias rack-7\n"
    )
    place.theirs.write_text("rack-7 " + server.host_line.split(" ", 1)[1])
    with connected(place.dialer(Address("box"))):
        pass


def test_where_an_address_leads_is_told_without_going_there(place: Place, server: Sshd) -> None:
    place.configure("Host box\n  HostName 10.0.0.7\n  Port 30022\n  User me\n  HostKeyAlias rack-7\n")
    found = place.dialer(Address("box")).destination(10)
    assert (found.place, found.user, found.key_name) == ("10.0.0.7:30022", "me", "rack-7")
    assert place.theirs in found.known_hosts
    assert found.by_way_of is None
    assert place.dialer(Address("box", jump="a,gate")).destination(10).by_way_of == "the jump host gate"
    command = (("ProxyCommand", "nc %h %p"),)
    assert place.dialer(Address("box", options=command)).destination(10).by_way_of == "a ProxyCommand"


def test_the_key_that_logged_in_is_told(place: Place, server: Sshd) -> None:
    place.trust(server)
    dialer = place.dialer(server.address)
    with connected(dialer):
        pass
    known = place.kind is ParamikoDialer
    shown = f"with {server.user_key} (ED25519 {fingerprint(server.user_key)})"
    assert dialer.login == (shown if known else "")


def test_an_included_file_counts(place: Place, server: Sshd) -> None:
    place.trust(server)
    (place.directory / "more").write_text(f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n")
    place.configure(f"Include {place.directory}/mo*\nHost other\n  Port 1\n")
    with connected(place.dialer(replace(server.address, host="box", port=None))):
        pass


def test_the_line_wins_over_the_configuration(place: Place, server: Sshd) -> None:
    place.trust(server)
    place.configure("Host 127.0.0.1\n  Port 1\n  User nobody-here\n  ProxyJump nowhere.invalid\n")
    with connected(place.dialer(replace(server.address, jump="none"))):
        pass


def test_a_configuration_that_cannot_be_understood_is_named(place: Place, server: Sshd) -> None:
    place.configure("Host box\n  Port banana\n")
    fails(
        place.dialer(replace(server.address, host="box", port=None)), errors.ConnectError, str(place.config)
    )


# --- host keys
# ----------------------------------------------------------------------------------------------------


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


# --- keys
# ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_a_locked_key_of_any_form_is_recognised(
    place: Place, server: Sshd, tmp_path: Path, form: str
) -> None:
    place.trust(server)
    key = make_key(tmp_path / "locked", kind="ecdsa")
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-m", form, "-f", str(key)]
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


@contextmanager
def ssh_agent(directory: Path, monkeypatch: pytest.MonkeyPatch, *keys: Path) -> Iterator[None]:
    path = directory / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        assert eventually(path.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL)
        yield
    finally:
        agent.kill()
        agent.wait()


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


# --- hosts that do not answer as they should
# ----------------------------------------------------------------------


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
    with kind_of_silence() as port:
        if known:
            kind, blob = Path(f"{make_key(tmp_path / 'k')}.pub").read_text().split()[:2]
            place.theirs.write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
        began = time.monotonic()
        fails(place.dialer(Address("127.0.0.1", port, "me"), accept_new=True), errors.NoAnswer, timeout=1.5)
        assert time.monotonic() - began < 2.5
    assert eventually(lambda: children() == [])


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


# --- by way of others
# ---------------------------------------------------------------------------------------------


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
    fails(place.dialer(Address("a", 22, "me")), errors.ConnectError, "circle")


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


def test_an_ssh_that_ended_before_the_first_request_still_says_why() -> None:
    child = Child(
        ["sh", "-c", "echo 'no such host' >&2; exit 255"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.wait(10)
    stream = PipeStream(child, "a", Deadline(10), errors.ConnectError, None)
    with pytest.raises(errors.ConnectError, match="no such host"):
        shake_hands(stream)
    stream.close()


# --- the end
# ------------------------------------------------------------------------------------------------------


def test_closing_wakes_a_thread_that_receives(place: Place, server: Sshd) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        counts: list[int] = []
        buffer = memoryview(bytearray(1 << 16))

        def receive() -> None:
            while count := stream.recv_into([buffer]):
                counts.append(count)
            counts.append(0)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        stream.close()
        thread.join(2)
        assert not thread.is_alive()
        assert counts[-1] == 0
        stream.close()
        with pytest.raises((OSError, EOFError)):
            stream.send(b"x")


def test_closing_wakes_a_thread_that_sends(place: Place, server: Sshd) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        blocked = threading.Event()

        def send() -> None:
            # Requests whose answers nobody reads, until the server stops reading them.
            request = struct.pack(">IBII", 10, 16, 1, 1) + b"/"
            try:
                while True:
                    stream.send(request * 20_000)
            except (OSError, EOFError):
                blocked.set()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(1)
        stream.close()
        assert blocked.wait(3)


def test_a_session_that_the_server_ends_is_the_end_of_the_stream(
    place: Place, server: Sshd, capfd: pytest.CaptureFixture[str]
) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        server.kill_sessions()
        buffer = memoryview(bytearray(1 << 16))
        while stream.recv_into([buffer]):
            pass
        assert stream.error is None
    assert capfd.readouterr().err == ""


def test_nothing_is_left_behind(place: Place, server: Sshd) -> None:
    server_process = children()
    place.trust(server)
    for _ in range(3):
        with connected(place.dialer(server.address)):
            pass
    assert eventually(lambda: children() == server_process)
    assert eventually(lambda: server.sessions() == 0)


def test_a_ctrl_c_in_the_terminal_does_not_reach_ssh(place: Place, server: Sshd) -> None:
    if place.kind is ParamikoDialer:
        pytest.skip("there is no other process")
    server_process = children()
    place.trust(server)
    with connected(place.dialer(server.address)):
        (ssh,) = set(children()) - set(server_process)
        assert os.getsid(ssh) == ssh
        assert os.getpgid(ssh) == ssh


def test_several_connections_are_made_at_once(place: Place, server: Sshd) -> None:
    person = Person()
    dialer = place.dialer(server.address, person)
    failures: list[BaseException] = []

    def connect() -> None:
        try:
            with connected(dialer):
                pass
        except (errors.ConnectError, AssertionError) as e:
            failures.append(e)

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    assert len(person.shown) == 1
