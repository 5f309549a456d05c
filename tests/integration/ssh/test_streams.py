"""What gets through, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import struct
import threading
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import MSG_NAMES

from tests.lab.relay import Relay
from tests.lab.ssh_client import (
    Conversation,
    Person,
    Place,
    children,
    connected,
    fails,
)
from tests.lab.sshd import Sshd, fingerprint, make_key
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.sftp.connection import Connection
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer
from vfs.remote.ssh.paramiko_packets import Packets
from vfs.remote.ssh.paramiko_stream import ChannelStream
from vfs.remote.ssh.transport import HELLO


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

    buffers = [tracemalloc.Filter(True, f"*/{name}.py") for name in ("paramiko_packets", "decoder")]
    tracemalloc.start()
    try:
        kept = asyncio.run(lose())

        def held() -> int:
            return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(buffers).traces)

        assert eventually(lambda: held() < 10_000), f"{kept} holds {held()} bytes"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["ours", "the server's"])
def test_a_connection_that_has_ended_is_freed_without_a_garbage_collection(
    place: Place, server: Sshd, end: str
) -> None:
    async def story() -> None:
        for _ in range(2):  # what is made only once, is made now
            lost = asyncio.Event()
            stream = await asyncio.to_thread(place.dialer(server.address, accept_new=True).dial, 10)
            connection = Connection(stream, lambda _, lost=lost: lost.set())  # type: ignore[misc]
            await connection.start()
            if end == "ours":
                connection.close()
            else:
                server.kill_sessions()
            async with asyncio.timeout(10):
                await lost.wait()
            alive = weakref.WeakSet[object]([connection, stream])
            if isinstance(stream, ChannelStream):
                alive.add(stream._chain.sessions[0])
            del stream, connection
        async with asyncio.timeout(10):
            while alive:
                await asyncio.sleep(0.05)

    gc.disable()
    try:
        asyncio.run(story())
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "lines",
    [
        ["Ciphers aes128-gcm@openssh.com"],
        ["Ciphers aes256-ctr", "MACs hmac-sha2-512"],
        ["Ciphers aes128-ctr", "MACs hmac-sha2-256-etm@openssh.com"],
    ],
)
def test_megabytes_come_through_in_order_while_the_server_changes_its_keys(
    place: Place, tmp_path: Path, lines: list[str]
) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(content)
    with Sshd(tmp_path, extra=["RekeyLimit 1M", *lines]) as server:
        place.trust(server)
        with connected(place.dialer(server.address)) as stream:
            assert read_file(stream, str(tmp_path / "data").encode(), len(content)) == content


def test_a_server_that_is_fast_under_chacha20_alone_is_left_to_ssh(tmp_path: Path) -> None:
    chacha = "chacha20-poly1305@openssh.com"

    def paramiko(server: Sshd, *options: tuple[str, str]) -> ParamikoDialer:
        known = (
            "UserKnownHostsFile",
            str(tmp_path / "known"),
        )  # not this user's, which may have the port's last server
        address = replace(server.address, options=(known, *options))
        dialer = ParamikoDialer(address, tmp_path / "ours", accept_new=True)
        dialer.leave_slow = True
        return dialer

    with Sshd(extra=[f"Ciphers {chacha},aes256-ctr"]) as server:
        fails(paramiko(server), errors.NeedsOpenssh, "ChaCha20")
        with connected(paramiko(server, ("Ciphers", "aes256-ctr"))):
            pass
    for others in ("aes256-ctr", f"{chacha},aes128-gcm@openssh.com"):
        with Sshd(extra=[f"Ciphers {others}"]) as server, connected(paramiko(server)):
            pass


@pytest.mark.parametrize("lines", [["Ciphers aes128-gcm@openssh.com"], ["Ciphers aes256-ctr"]])
def test_the_event_loop_receives_in_order_while_the_server_changes_its_keys(
    place: Place, tmp_path: Path, lines: list[str]
) -> None:
    content = os.urandom(8 << 20)
    (tmp_path / "data").write_bytes(content)

    async def read(server: Sshd) -> bytes:
        stream = await asyncio.to_thread(place.dialer(server.address).dial, 10)
        over = asyncio.Event()
        connection = Connection(stream, lambda _: over.set())
        await connection.start()
        path = str(tmp_path / "data").encode()
        into = memoryview(bytearray(len(content)))
        handle = await connection.open(path)
        few = asyncio.Semaphore(3)  # so that requests are sent throughout

        async def part(start: int) -> None:
            async with few:
                await connection.read(handle, start, into[start : start + (1 << 18)], path)

        await asyncio.gather(*map(part, range(0, len(into), 1 << 18)))
        connection.close()
        async with asyncio.timeout(5):
            await over.wait()
        return bytes(into)

    with Sshd(tmp_path, extra=["RekeyLimit 1M", *lines]) as server:
        place.trust(server)
        assert asyncio.run(read(server)) == content


def test_paramiko_asks_for_the_service_once_and_waits_for_no_answer(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    send, read = Packets.send_message, Packets.read_message

    def sending(packets: Packets, message: paramiko.Message) -> None:
        messages.append(MSG_NAMES[message.asbytes()[0]])
        send(packets, message)

    def reading(packets: Packets) -> tuple[int, object]:
        kind, message = read(packets)
        messages.append(MSG_NAMES[kind])
        return kind, message

    monkeypatch.setattr(Packets, "send_message", sending)
    monkeypatch.setattr(Packets, "read_message", reading)
    keys = (str(make_key(tmp_path / "stranger")), str(server.user_key))
    with Relay(server.port, rtt_ms=50) as relay:
        place = Place(tmp_path, ParamikoDialer)
        address = replace(server.address, port=relay.port, keys=keys)
        with connected(place.dialer(address, accept_new=True)):
            pass
    login = [m for m in messages if m.startswith(("service-", "userauth-re", "userauth-f", "userauth-s"))]
    assert login == [
        "service-request",
        "userauth-request",
        "service-accept",
        "userauth-failure",
        "userauth-request",
        "userauth-success",
    ]


def read_file(stream: Conversation, path: bytes, size: int) -> bytes:
    """A file by raw SFTP, many READs of 32 KiB in flight."""

    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    def answer() -> bytes:
        return stream.take(struct.unpack(">I", stream.take(4))[0])

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


# --- the end


def test_closing_wakes_a_thread_that_receives(place: Place, server: Sshd) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        stream.close()
        assert stream.ended(2)
        stream.close()
        with pytest.raises((OSError, EOFError)):
            stream.send(b"x")


def test_closing_wakes_a_thread_that_sends(place: Place, server: Sshd) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        blocked = threading.Event()
        stream.stop_reading()

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


def test_what_would_have_to_wait_is_not_sent_at_once(server: Sshd, tmp_path: Path) -> None:
    stream = ParamikoDialer(server.address, tmp_path / "ours", accept_new=True).dial(10)
    assert isinstance(stream, ChannelStream)
    session, hello = stream._chain.sessions[-1], HELLO
    try:
        assert eventually(lambda: stream.send_now(hello) == len(hello))  # once the window is open
        with session.clear_to_send_lock:
            assert stream.send_now(hello) == 0
        session.clear_to_send.clear()  # new keys are agreed on
        assert stream.send_now(hello) == 0
        session.clear_to_send.set()
        assert stream.send_now(bytes(1 << 20)) == 0
    finally:
        stream.close()
    assert stream.send_now(hello) == 0


def test_a_session_that_the_server_ends_is_the_end_of_the_stream(
    place: Place, server: Sshd, capfd: pytest.CaptureFixture[str]
) -> None:
    place.trust(server)
    with connected(place.dialer(server.address)) as stream:
        server.kill_sessions()
        assert stream.ended(60)
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
