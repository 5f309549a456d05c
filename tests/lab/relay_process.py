"""The process of a `Relay`: `python -I -S relay_process.py TARGET_PORT RTT_MS RATE_MBIT WINDOW`. It imports nothing of ours.

Every piece is delivered RTT/2 after it was read; each direction shares one token bucket over all connections; at most WINDOW
bytes of one connection are under way in a direction, which stands for TCP's window. It takes one command a line on stdin,
answers each with one line of JSON, and ends when its stdin does.

One thread around a selector. Memory is bounded: one ring of WINDOW bytes per direction and connection.
"""

from __future__ import annotations

import heapq
import itertools
import json
import mmap
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

HOST = "127.0.0.1"
_PIECE = 256 << 10
_SMALLEST_PIECE = 4 << 10
_EARLY = 0.0005
"""Seconds. A selector rounds its timeout up to whole milliseconds; what is due within half of one goes out now."""


class Link:
    """What all connections share: delay, one bucket per direction, counters, the clock of deliveries."""

    def __init__(self, rtt_ms: float, rate_mbit: float, window: int) -> None:
        self.window = window
        self.set_delay(rtt_ms)
        self.set_rate(rate_mbit)
        self.free_at = {"up": 0.0, "down": 0.0}
        self.latest = {"up": 0.0, "down": 0.0}
        self.moved = {"up": 0, "down": 0}
        self.accepted = 0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def set_delay(self, rtt_ms: float) -> None:
        self.half_rtt = rtt_ms / 2000

    def set_rate(self, rate_mbit: float) -> None:
        self.rate = rate_mbit * 1e6 / 8
        # Pieces of about 2 ms, so that a slow link trickles instead of jerking.
        self.piece = min(_PIECE, max(_SMALLEST_PIECE, int(self.rate * 0.002))) if self.rate else _PIECE

    def due(self, way: str, length: int) -> float:
        """When a piece that was read now is delivered: its turn in the bucket, then half the round trip."""
        now = time.monotonic()
        if self.rate:
            self.free_at[way] = now = max(self.free_at[way], now) + length / self.rate
        # Never before an earlier piece, also when the delay was shortened in between.
        self.latest[way] = max(self.latest[way], now + self.half_rtt)
        return self.latest[way]

    def behind(self) -> float:
        return max(0.0, max(self.latest.values()) - time.monotonic() - self.half_rtt)

    def forget(self) -> None:
        """Nothing is under way any more: what comes next has nothing to wait for."""
        self.free_at = {"up": 0.0, "down": 0.0}
        self.latest = {"up": 0.0, "down": 0.0}

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._order), call))

    def timeout(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def run_due(self) -> None:
        horizon = time.monotonic() + _EARLY
        while self._timers and self._timers[0][0] <= horizon:
            heapq.heappop(self._timers)[2]()


class Way:
    """One direction of one connection: a ring of bytes under way, of which the first `ready` may be sent."""

    def __init__(self, link: Link, name: str, source: socket.socket, sink: socket.socket) -> None:
        self.link, self.name, self.source, self.sink = link, name, source, sink
        self._ring = memoryview(mmap.mmap(-1, link.window))  # pages that are never used cost nothing
        self._head = self.held = self.ready = 0
        self.source_ended = self.ended = self._end_due = False

    def receive(self) -> None:
        """Read one piece into the ring. Raises OSError."""
        if not self.held:
            self._head = 0  # the same pages again: they are in the processor's cache
        start = (self._head + self.held) % len(self._ring)
        room = min(self.link.piece, len(self._ring) - self.held, len(self._ring) - start)
        length = self.source.recv_into(self._ring[start : start + room])
        if length:
            self.held += length
            self.link.at(self.link.due(self.name, length), lambda: self._release(length))
        else:
            self.source_ended = True
            self.link.at(self.link.due(self.name, 0), self._release_end)

    def _release(self, length: int) -> None:
        self.ready += length

    def _release_end(self) -> None:
        self._end_due = True

    @property
    def pending(self) -> bool:
        return bool(self.ready) or (self._end_due and not self.ended)

    def send(self) -> None:
        """Send what is due, as far as the sink takes it. Raises OSError."""
        while self.ready:
            try:
                sent = self.sink.send(self._ring[self._head : self._head + self.ready])
            except BlockingIOError:
                return
            self._head = (self._head + sent) % len(self._ring)
            self.held -= sent
            self.ready -= sent
            self.link.moved[self.name] += sent
        if self._end_due and not self.ended:
            self.ended = True
            self.sink.shutdown(socket.SHUT_WR)


class Pair:
    """A connection: the client's socket, the target's, and a way in each direction."""

    def __init__(
        self, link: Link, selector: selectors.BaseSelector, client: socket.socket, target_port: int
    ) -> None:
        self._selector = selector
        self._sockets = (client, socket.socket())
        for end in self._sockets:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = self._sockets[1]
        self._ways = (Way(link, "up", client, target), Way(link, "down", target, client))
        self._interest = [0, 0]
        self.open = True
        self._connected = False
        # The client's handshake is over at once; here it takes its round trip.
        link.at(time.monotonic() + 2 * link.half_rtt, lambda: self._connect(target_port))

    def _connect(self, target_port: int) -> None:
        if self.open:
            self._connected = True
            self._sockets[1].connect_ex((HOST, target_port))

    def work(self) -> None:
        """Send what is due, and ask for the events that are of use."""
        if not self.open or not self._connected:
            return
        up, down = self._ways
        try:
            for way in self._ways:
                if way.pending:
                    way.send()
        except OSError:
            self.abort()
            return
        if up.ended and down.ended:
            self.abort(gently=True)
            return
        for index, (reads, writes) in enumerate(((up, down), (down, up))):
            interest = selectors.EVENT_READ * (not reads.source_ended and reads.held < len(reads._ring))
            interest |= selectors.EVENT_WRITE * bool(writes.ready)
            self._watch(index, interest)

    def _watch(self, index: int, interest: int) -> None:
        before, self._interest[index] = self._interest[index], interest
        if interest == before:
            return
        end = self._sockets[index]
        if not before:
            self._selector.register(end, interest, (self, index))
        elif interest:
            self._selector.modify(end, interest, (self, index))
        else:
            self._selector.unregister(end)

    def on_event(self, index: int, mask: int) -> None:
        if self.open and mask & selectors.EVENT_READ and self._interest[index] & selectors.EVENT_READ:
            try:
                self._ways[index].receive()
            except BlockingIOError:
                pass
            except OSError:
                self.abort()

    def abort(self, gently: bool = False) -> None:
        if not self.open:
            return
        self.open = False
        for index, end in enumerate(self._sockets):
            self._watch(index, 0)
            if not gently:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Server:
    """The listening socket, the connections, and the commands that come over stdin."""

    def __init__(self, link: Link, target_port: int) -> None:
        self._link, self._target_port = link, target_port
        self._selector = selectors.DefaultSelector()
        self._commands = selectors.DefaultSelector()
        for selector in (self._selector, self._commands):
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._pairs: set[Pair] = set()
        self._dark = False
        self._input = b""
        self._listen(0)
        _say({"port": self._port})

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server((HOST, port), backlog=128)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._listening = True
        self._selector.register(self._listener, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            if self._dark:
                if not self._command():
                    return
                continue
            for key, mask in self._selector.select(self._link.timeout()):
                if key.data:
                    pair, index = key.data
                    pair.on_event(index, mask)
                elif key.fileobj is self._listener:
                    self._accept()
                elif not self._command():
                    return
            self._link.run_due()
            for pair in self._pairs:
                pair.work()
            self._pairs = {pair for pair in self._pairs if pair.open}

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # gone again before it was taken
            return
        self._link.accepted += 1
        self._pairs.add(Pair(self._link, self._selector, client, self._target_port))

    def _command(self) -> bool:
        """Read from stdin and do the commands that are whole; False at its end."""
        data = os.read(sys.stdin.fileno(), 4096)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._do(*line.decode().split())
        return bool(data)

    def _do(self, verb: str, argument: str = "0") -> None:
        value = float(argument)
        if verb == "blackhole":
            self._dark = bool(value)
        elif verb == "refuse":
            self._refuse(bool(value))
        elif verb == "reset":
            for pair in self._pairs:
                pair.abort()
            self._pairs.clear()
            self._link.forget()
        elif verb == "slow":
            self._link.set_rate(value)
        elif verb == "delay":
            self._link.set_delay(value)
        elif verb != "stats":
            raise ValueError(f"no such command: {verb}")
        told = {"accepted": self._link.accepted, "open": len(self._pairs), "behind": self._link.behind()}
        _say({**self._link.moved, **told})

    def _refuse(self, on: bool) -> None:
        if on and self._listening:
            self._selector.unregister(self._listener)
            self._listener.close()
            # A bound socket that does not listen keeps the port ours and refuses every connection.
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((HOST, self._port))
            self._listening = False
        elif not on and not self._listening:
            self._listener.close()
            self._listen(self._port)


def _say(answer: dict[str, float]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _target, _rtt, _rate, _window = sys.argv[1:]
    Server(Link(float(_rtt), float(_rate), int(_window)), int(_target)).run()
