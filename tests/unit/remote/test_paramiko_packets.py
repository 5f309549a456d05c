"""SSH packets under AES-GCM and AES-CTR: whole messages out of whatever pieces come, and what is wrong with them is found."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as st
from paramiko import Message, SSHException
from paramiko.packet import NeedRekeyException

from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.paramiko_packets import CHANNEL_DATA, LARGEST, RECEIVED, Packets

KEY = AESGCM(bytes(16))
FIXED, FIRST = b"abcd", 0xFFFF_FFFF_FFFF_FFFE
"""A counter that runs over after two packets."""
OTHER = 21

KINDS = [
    "aes128-gcm",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha2-256-etm",
    "hmac-sha2-512-etm",
    "hmac-sha1-96",
]


class Server:
    """What an SSH server sends under one of KINDS, and the client's packetizer at the other end."""

    def __init__(self, kind: str = "aes128-gcm") -> None:
        self.ours, self.socket = socket.socketpair()
        self.ours.settimeout(0.05)
        self.packetizer: Any = Packets(self.ours)
        self._gcm, self._etm = kind == "aes128-gcm", kind.endswith("-etm")
        self._digest = {"sha2-256": "sha256", "sha2-512": "sha512"}.get(kind[5:13], "sha1")
        self._mac = 12 if kind.endswith("-96") else hashlib.new(self._digest).digest_size
        ctr = Cipher(AES(bytes(16)), CTR(bytes(16)))
        self._encryptor = ctr.encryptor()
        self._counter, self._number = FIRST, 0
        if self._gcm:
            keys: dict[str, Any] = {"aead": True, "iv_in": FIXED + FIRST.to_bytes(8, "big"), "mac_size": 16}
            keys |= {"block_engine": KEY, "mac_engine": None, "mac_key": None}
        else:
            keys = {"block_engine": ctr.decryptor(), "mac_engine": getattr(hashlib, self._digest)}
            keys |= {"mac_size": self._mac, "mac_key": b"key", "etm": self._etm}
        self.packetizer.set_inbound_cipher(block_size=16, **keys)

    def new_keys(self) -> Callable[[], None]:
        """What is sent from now on begins with the same keys anew, as AES-GCM; for the client to call."""
        self._gcm, self._counter = True, FIRST
        keys: dict[str, Any] = {"aead": True, "iv_in": FIXED + FIRST.to_bytes(8, "big"), "mac_size": 16}
        keys |= {"block_engine": KEY, "mac_engine": None, "mac_key": None}
        return lambda: self.packetizer.set_inbound_cipher(block_size=16, **keys)

    def packet(self, payload: bytes) -> bytes:
        """The next packet that the server sends."""
        clear = 4 if self._gcm or self._etm else 0
        padding = 4 + -(len(payload) + 5 + 4 - clear) % 16
        plain = bytes([padding]) + payload + os.urandom(padding)
        length = struct.pack(">I", len(plain))
        number, self._number = struct.pack(">I", self._number), self._number + 1
        if self._gcm:
            nonce = FIXED + self._counter.to_bytes(8, "big")
            self._counter = (self._counter + 1) % (1 << 64)
            return length + KEY.encrypt(nonce, plain, length)
        whole = length + plain
        sent = whole[:clear] + self._encryptor.update(whole[clear:])
        mac = hmac.digest(b"key", number + (sent if self._etm else whole), self._digest)
        return sent + mac[: self._mac]

    def data(self, data: bytes) -> bytes:
        return self.packet(struct.pack(">BII", CHANNEL_DATA, 3, len(data)) + data)

    def close(self) -> None:
        self.socket.close()
        self.ours.close()

    def divert(self, reader: LoopReader, channel: int, sink: Callable[[Sequence[memoryview]], None]) -> None:
        self.packetizer.divert(reader, self.ours.fileno(), channel, sink)


@contextmanager
def received_by_a_loop(kind: str) -> Iterator[Server]:
    """The client's packetizer gives every message to who calls `read_message`; a loop in the background receives."""
    server, loop = Server(kind), asyncio.new_event_loop()
    reader = LoopReader(loop)
    server.divert(reader, 99, lambda data: None)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        reader.call(reader.stop)
        reader.call(loop.stop)
        thread.join()
        loop.close()
        server.close()


def data_of(message: Message) -> bytes:
    assert message.get_int() == 3  # the channel
    return message.get_binary()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def reading(request: pytest.FixtureRequest) -> Iterator[Server]:
    with received_by_a_loop(request.param) as made:
        yield made


def test_a_packetizer_is_paramikos_until_it_is_diverted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packetizer: Any = Packets(ours)
        theirs.sendall(struct.pack(">IBB", 12, 10, OTHER) + bytes(10))
        kind, _ = packetizer.read_message()
        assert kind == OTHER


@settings(deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(1, 200_000), max_size=5),
    st.lists(st.one_of(st.integers(1, 50), st.integers(1000, 120_000)), min_size=1, max_size=8).filter(
        lambda pieces: max(pieces) > 1000
    ),
)
def test_messages_come_whole_in_whatever_pieces_they_are_sent(
    kind: str, lengths: list[int], pieces: list[int]
) -> None:
    def send() -> None:
        start = 0
        for piece in itertools.cycle(pieces):
            server.socket.sendall(stream[start : start + piece])
            start += piece
            if start >= len(stream):
                return

    with received_by_a_loop(kind) as server:
        parts = [bytes([length % 251]) * length for length in lengths]
        stream = b"".join(map(server.data, parts)) + server.packet(bytes([OTHER]) + b"\0\0\0\7rest")
        sender = threading.Thread(target=send)
        sender.start()
        found = []
        while (answer := server.packetizer.read_message())[0] == CHANNEL_DATA:
            found.append(data_of(answer[1]))
        assert found == parts
        assert answer[0] == OTHER
        assert (answer[1].get_int(), answer[1].get_remainder()) == (7, b"rest")
        sender.join()


def test_a_packet_that_was_changed_on_the_way_is_refused(reading: Server) -> None:
    packet = bytearray(reading.data(b"something"))
    packet[20] ^= 1
    reading.socket.sendall(packet)
    with pytest.raises((InvalidTag, SSHException)):
        reading.packetizer.read_message()


@pytest.mark.parametrize("kind", ["aes128-gcm", "hmac-sha2-256-etm"])
@pytest.mark.parametrize("length", [0, 15, LARGEST + 1, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_is_refused_before_anything_is_waited_for(kind: str, length: int) -> None:
    with received_by_a_loop(kind) as server:
        server.socket.sendall(struct.pack(">I", length))
        with pytest.raises(SSHException, match=f"a packet of {length} bytes"):
            server.packetizer.read_message()


def test_an_encrypted_length_that_cannot_be_is_refused_too() -> None:
    with received_by_a_loop("hmac-sha2-256") as server:
        server.socket.sendall(os.urandom(16))
        with pytest.raises(SSHException, match="a packet of"):
            server.packetizer.read_message()


def test_a_packet_that_is_sent_twice_is_refused() -> None:
    for kind in KINDS[1:]:
        with received_by_a_loop(kind) as server:
            packet = server.data(b"something")
            server.socket.sendall(packet * 2)
            server.packetizer.read_message()
            with pytest.raises(SSHException):
                server.packetizer.read_message()


def test_packets_are_counted_from_where_paramiko_counted_to() -> None:
    with received_by_a_loop("hmac-sha2-512") as server:
        server.packetizer._Packetizer__sequence_number_in = server._number = 0xFFFF_FFFF
        server.socket.sendall(server.data(b"something"))
        assert data_of(server.packetizer.read_message()[1]) == b"something"
        server._number = 0
        server.socket.sendall(server.data(b"more"))
        assert data_of(server.packetizer.read_message()[1]) == b"more"
        server.packetizer.reset_seqno_in()
        server._number = 0
        server.socket.sendall(server.packet(bytes([OTHER])))
        assert server.packetizer.read_message()[1].seqno == 0


def test_an_empty_packet_is_refused(reading: Server) -> None:
    reading.socket.sendall(reading.packet(b""))
    with pytest.raises(SSHException, match="empty"):
        reading.packetizer.read_message()


@pytest.mark.parametrize("sent", [0, 3, 30])
def test_the_end_is_told_also_in_the_middle_of_a_packet(reading: Server, sent: int) -> None:
    reading.socket.sendall(reading.data(b"something")[:sent])
    reading.socket.close()
    with pytest.raises(EOFError):
        reading.packetizer.read_message()


def test_a_session_that_is_closed_ends_although_nothing_comes(reading: Server) -> None:
    reading.packetizer.close()
    with pytest.raises(EOFError):
        reading.packetizer.read_message()


def test_new_keys_are_asked_for_after_so_many_bytes_and_insisted_on(reading: Server) -> None:
    reading.packetizer.REKEY_BYTES = 1000
    reading.socket.sendall(b"".join(reading.data(bytes(900)) for _ in range(4)))
    reading.packetizer.read_message()
    assert not reading.packetizer.need_rekey()
    reading.packetizer.read_message()
    assert reading.packetizer.need_rekey()
    reading.packetizer.read_message()
    with pytest.raises(SSHException, match="does not agree"):
        reading.packetizer.read_message()


def test_the_largest_packet_fits_wherever_it_begins(reading: Server) -> None:
    assert LARGEST + 4 + 64 <= RECEIVED
    data = os.urandom(LARGEST - 100)
    stream = reading.data(b"1" * (RECEIVED - LARGEST)) + reading.data(data)
    sender = threading.Thread(target=reading.socket.sendall, args=[stream])
    sender.start()
    reading.packetizer.read_message()
    _, message = reading.packetizer.read_message()
    sender.join()
    assert data_of(message) == data


# --- received by the event loop --------------------------------------------------------------------------------------


def diverted(
    server: Server, send: Callable[[], object], on_message: Callable[[int], object] = lambda kind: None
) -> tuple[bytes, list[int], BaseException]:
    """The data that the loop received, the kinds of the messages that paramiko's thread got, and how it ended."""
    data = bytearray()
    kinds: list[int] = []
    failures: list[BaseException] = []

    def sink(views: Sequence[memoryview]) -> None:
        for view in views:
            data.extend(view)

    def paramiko(done: Callable[[], object]) -> None:
        try:
            while True:
                try:
                    kind, _ = server.packetizer.read_message()
                except NeedRekeyException:
                    kind = -1
                kinds.append(kind)
                on_message(kind)
        except BaseException as failure:  # noqa: BLE001 # it is what the test asks for
            failures.append(failure)
        done()

    async def run() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        reader = LoopReader(loop)
        server.divert(reader, 3, sink)
        thread = threading.Thread(target=paramiko, args=[lambda: loop.call_soon_threadsafe(over.set)])
        sender = threading.Thread(target=send)
        thread.start()
        sender.start()
        async with asyncio.timeout(10):
            await over.wait()
        reader.stop()
        sender.join()
        thread.join()

    asyncio.run(run())
    return bytes(data), kinds, failures[0]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(KINDS),
    st.lists(st.one_of(st.just(0), st.integers(1, 200_000)), max_size=6),
    st.integers(1000, 300_000),
)
def test_the_loop_gets_the_data_and_the_thread_all_else(kind: str, lengths: list[int], piece: int) -> None:
    server = Server(kind)
    parts = [bytes([length % 251]) * length for length in lengths]
    stream = b"".join(server.data(part) if part else server.packet(bytes([OTHER])) for part in parts)
    stream += struct.pack(">I", 3) if kind == "aes128-gcm" else b""

    def send() -> None:
        for start in range(0, len(stream), piece):
            server.socket.sendall(stream[start : start + piece])
        server.socket.close()

    data, kinds, failure = diverted(server, send)
    server.close()
    assert data == b"".join(parts)
    assert kinds == [OTHER] * lengths.count(0)
    assert isinstance(failure, SSHException if kind == "aes128-gcm" else EOFError)


def test_nothing_is_decrypted_before_the_thread_has_changed_the_keys(server: Server) -> None:
    sent = server.data(b"before") + server.packet(bytes([OTHER]))
    change = server.new_keys()
    sent += server.data(b" and after")

    def send() -> None:
        server.socket.sendall(sent)
        server.socket.close()

    data, kinds, failure = diverted(server, send, lambda kind: change())
    assert (data, kinds) == (b"before and after", [OTHER])
    assert isinstance(failure, EOFError)


def test_the_data_of_other_channels_is_the_threads(server: Server) -> None:
    other = server.packet(struct.pack(">BII", CHANNEL_DATA, 4, 5) + b"other")

    def send() -> None:
        server.socket.sendall(other + server.data(b"ours"))
        server.socket.close()

    data, kinds, _ = diverted(server, send)
    assert (data, kinds) == (b"ours", [CHANNEL_DATA])


def test_a_packet_that_was_changed_ends_the_thread_and_what_came_before_it_counts(server: Server) -> None:
    first, packet = server.data(b"first"), bytearray(server.data(b"second"))
    packet[20] ^= 1
    data, _, failure = diverted(server, lambda: server.socket.sendall(first + packet))
    assert data == b"first"
    assert isinstance(failure, (InvalidTag, SSHException))


def test_the_thread_is_told_once_that_new_keys_are_due(server: Server) -> None:
    server.packetizer.REKEY_BYTES = 1000

    def send() -> None:
        for _ in range(3):
            server.socket.sendall(server.data(bytes(600)))
        server.socket.close()

    data, kinds, failure = diverted(server, send)
    assert (len(data), kinds) == (1800, [-1])
    assert isinstance(failure, EOFError)


def test_a_thread_that_waits_for_a_message_ends_when_the_session_is_closed(server: Server) -> None:
    _, _, failure = diverted(server, server.packetizer.close)
    assert isinstance(failure, EOFError)
