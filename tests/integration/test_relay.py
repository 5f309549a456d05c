"""The relay behaves like the link that it was told to be."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.lab.relay import Relay

MIB = 1 << 20


class Target:
    """A server that answers `send N` with N zero bytes, and echoes everything else."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while line := connection.recv(4096):
                if line.startswith(b"send "):
                    left = int(line[5:])
                    block = bytes(MIB)
                    while left:
                        left -= connection.send(block[:left])
                else:
                    connection.sendall(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed by the test already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target()
    yield server
    server.close()


def connect(relay: Relay) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", relay.port), 10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ping(client: socket.socket) -> float:
    """Seconds for a byte there and back."""
    began = time.monotonic()
    client.sendall(b".")
    assert client.recv(1) == b"."
    return time.monotonic() - began


def receive(client: socket.socket, length: int) -> float:
    """Seconds for `length` bytes that are asked for."""
    buffer = bytearray(MIB)
    began = time.monotonic()
    client.sendall(b"send %d" % length)
    while length:
        got = client.recv_into(buffer)
        assert got
        length -= got
    return time.monotonic() - began


def test_a_byte_takes_the_round_trip(target: Target) -> None:
    with Relay(target.port, rtt_ms=40) as relay:
        began = time.monotonic()  # the relay may have begun to count before `connect` returns
        with connect(relay) as client:
            ping(client)
            first = time.monotonic() - began
            assert 0.078 <= first < 0.2, "the handshake takes a round trip of its own"
            assert 0.038 <= min(ping(client) for _ in range(5)) < 0.06


def test_without_delay_or_limit_the_relay_is_fast(target: Target) -> None:
    with Relay(target.port) as relay, connect(relay) as client:
        ping(client)
        assert min(ping(client) for _ in range(20)) < 0.01
        assert receive(client, 64 * MIB) < 64 / 150


def test_the_rate_is_shared_by_all_connections(target: Target) -> None:
    with Relay(target.port, rtt_ms=10, rate_mbit=80) as relay:
        clients = [connect(relay) for _ in range(4)]
        threads = [threading.Thread(target=receive, args=(client, 2_000_000)) for client in clients]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.8 <= time.monotonic() - began < 1.6
        assert relay.bytes_down() == 8_000_000
        for client in clients:
            client.close()


def test_the_window_bounds_what_is_under_way(target: Target) -> None:
    with Relay(target.port, rtt_ms=100, window=MIB) as relay, connect(relay) as client:
        ping(client)
        # The target is read again only when a piece was delivered: one window per half round trip at most.
        assert 0.4 <= receive(client, 8 * MIB) < 0.8


def test_a_long_fat_link_carries_a_gigabit_and_more(target: Target) -> None:
    with Relay(target.port, rtt_ms=50, window=8 * MIB) as relay, connect(relay) as client:
        ping(client)
        assert 128 / receive(client, 128 * MIB) >= 150


def test_what_went_through_is_counted(target: Target) -> None:
    with Relay(target.port) as relay:
        with connect(relay) as client, connect(relay):
            receive(client, 100_000)
            assert relay.connections() == 2
            assert relay.open_connections() == 2
        assert relay.bytes_down() == 100_000
        assert relay.bytes_up() == len("send 100000")


def test_reset_breaks_every_connection_and_new_ones_work(target: Target) -> None:
    with Relay(target.port) as relay, connect(relay) as client:
        ping(client)
        relay.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with connect(relay) as again:
            ping(again)


def test_a_black_hole_swallows_nothing_and_gives_it_back(target: Target) -> None:
    with Relay(target.port) as relay, connect(relay) as client:
        ping(client)
        relay.blackhole(True)
        client.sendall(b"held")
        late = connect(relay)
        late.sendall(b"late")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(4)
        relay.blackhole(False)
        client.settimeout(10)
        assert client.recv(4) == b"held"
        assert late.recv(4) == b"late"
        late.close()


def test_refuse_turns_new_connections_away_and_leaves_the_old_ones(target: Target) -> None:
    with Relay(target.port) as relay, connect(relay) as client:
        ping(client)
        relay.refuse(True)
        with pytest.raises(ConnectionRefusedError):
            connect(relay)
        ping(client)
        relay.refuse(False)
        with connect(relay) as again:
            ping(again)


def test_slow_changes_the_rate_at_once(target: Target) -> None:
    with Relay(target.port) as relay, connect(relay) as client:
        ping(client)
        relay.slow(8)
        assert 0.4 <= receive(client, 500_000) < 0.8
        relay.slow(0)
        assert receive(client, 10 * MIB) < 0.5


def test_an_end_of_stream_goes_through_in_each_direction(target: Target) -> None:
    with Relay(target.port, rtt_ms=10) as relay, connect(relay) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"last words"
        assert client.recv(100) == b""


def test_a_target_that_is_gone_resets_its_clients(target: Target) -> None:
    target.close()
    # The reset may come before `connect` has returned.
    with Relay(target.port) as relay, pytest.raises(ConnectionResetError), connect(relay) as client:
        client.recv(1)
