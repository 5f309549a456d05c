"""Requests out, answers in, over one transport.

All of it is done on the event loop's thread. What the transport cannot send without waiting is sent by a thread of its own,
and what comes meanwhile waits for that. Once a request has failed nobody writes into its buffer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vfs.base.errors import LinkLost, ProtocolViolation
from vfs.remote.sftp import wire
from vfs.remote.sftp.batch import Batch
from vfs.remote.sftp.decoder import VERSION_ID, Decoder, Reply
from vfs.remote.sftp.wire import Code, PacketType, Status
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.transport import AT_ONCE, Transport

log = logging.getLogger(__name__)
T = TypeVar("T")

DEAD_AFTER = 5.0
"""Seconds without a byte, while an answer is due, after which a connection is given up."""
KEEPALIVE = 5.0
"""Seconds without traffic after which the server is asked for a sign of life: within ten, a dead link is found."""
HANG_UP_AGAIN = 1.0
"""Seconds until a transport that could not be closed, since no thread can be started, is closed after all."""
OVERTAKEN = 30.0
"""If a request that was sent this many seconds later is answered, an earlier one counts as lost, and the connection is dropped."""


@dataclass(slots=True, eq=False)
class Ask:
    """A request in flight that has one answer, so not a READ."""

    future: asyncio.Future[Any]
    about: bytes
    sent: float
    expected: PacketType
    behind: int
    """Bytes that were due before its answer."""


class Exchange(ABC):
    """Made on the loop's thread; `_begin` starts it; `close` may be called at any time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._reader = LoopReader(self._loop)
        self._decoder: Decoder[Ask | Batch] = Decoder()
        self._outgoing: list[bytes] = []
        """Packets of this step of the loop, and those that wait for the thread that sends."""
        self._sending = False
        """Whether a thread sends."""
        self._ids = 0
        self._waiting: dict[Ask | Batch, None] = {}
        self.ended: LinkLost | None = None
        """Why it ends or has ended; None while requests can be sent."""
        self._timer: asyncio.TimerHandle | None = None
        self._latest = 0.0
        """When the youngest request that was answered so far was sent."""
        self.last_received = self._loop.time()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.requests = 0
        self.rtt = 0.0
        """The smallest time to an answer so far, in seconds."""
        self.saw_rtt: Callable[[float, int], None] | None = None
        """Told the time to an answer, in seconds, and the bytes that were due before it, once in each round trip."""
        self.load: Callable[[], int] = lambda: 0
        """Bytes that are due on the link."""
        self._measured = 0.0
        """When a round trip was last measured."""
        self.sound_until = 0.0
        """Set at the end: when that was, or when the silence before it began if an answer was due."""

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return self.ended is None

    @property
    def due(self) -> float | None:
        """When the oldest request that is not answered was sent; None if there is none."""
        return next(iter(self._waiting)).sent if self._waiting else None

    @property
    def silence(self) -> float:
        """Seconds for which an answer is due and no byte has come."""
        due = self.due
        return 0.0 if due is None else max(0.0, self._loop.time() - max(due, self.last_received))

    def close(self) -> None:
        """Hang up. Requests in flight fail with LinkLost."""
        self._give_up(LinkLost("the connection was closed"))

    @abstractmethod
    def _finish(self, batch: Batch) -> None:
        """All answers of a batch are there."""

    # --- requests (loop's thread) -----------------------------------------------------------------------------------

    def _begin(self) -> asyncio.Future[Any]:
        """Receive from now on; the server's extensions, from its answer to `HELLO`."""
        ask = Ask(self._loop.create_future(), b"", self._loop.time(), PacketType.VERSION, 0)
        self._decoder.expect(VERSION_ID, PacketType.VERSION, ask)
        self._await(ask)
        self._tick()
        self._transport.receive(self, self._reader)
        return ask.future

    def _request(
        self,
        expected: PacketType,
        kind: PacketType,
        text: bytes,
        tail: bytes = b"",
        *,
        about: bytes | None = None,
    ) -> asyncio.Future[Any]:
        number = self._next_id()
        packet = wire.request(kind, number, text, tail)
        return self._put(expected, number, packet, text if about is None else about)

    def _put(self, expected: PacketType, number: int, packet: bytes, about: bytes) -> asyncio.Future[Any]:
        ask = Ask(self._loop.create_future(), about, self._loop.time(), expected, self.load())
        if not self.alive:
            ask.future.set_exception(LinkLost("the connection has ended"))
            return ask.future
        self._decoder.expect(number, expected, ask)
        self._await(ask)
        self.requests += 1
        self._send_out(packet)
        return ask.future

    def _send_out(self, packet: bytes) -> None:
        """Send it, at once if nothing else is due; else with all that goes out in this step of the loop: each call of the system
        costs as much as ten packets."""
        self._outgoing.append(packet)
        if len(self._waiting) == 1:
            self._flush()
        elif len(self._outgoing) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._sending or not self.alive:
            return
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self.bytes_sent += len(data)
        while data and (sent := self._transport.send_now(data[:AT_ONCE])):
            data = data[sent:]
        if data:
            self._sending = True
            thread = threading.Thread(target=self._send, args=(data,), name="sftp writer", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._sent(f"cannot send: {error}")

    def _send(self, data: bytes) -> None:
        """Send, however long that takes. A thread of its own."""
        failure = ""
        try:
            self._transport.send(data)
        except (OSError, EOFError) as error:
            failure = f"cannot send: {error}"
        self._reader.call(self._sent, failure)

    def _sent(self, failure: str) -> None:
        self._sending = False
        if failure:
            self._give_up(LinkLost(failure))
        self._flush()

    def _await(self, item: Ask | Batch) -> None:
        if not self._waiting and self._timer is not None and self._timer.when() > item.sent + DEAD_AFTER:
            self._timer.cancel()  # it was set when nothing was due
            self._timer = self._loop.call_later(DEAD_AFTER, self._tick)
        self._waiting[item] = None

    def _next_id(self) -> int:
        self._ids = (self._ids + 1) & 0xFFFFFFFF
        return self._ids

    def violated(self, what: str) -> ProtocolViolation:
        """The error to raise; the connection is dropped."""
        log.warning("the connection is dropped: %s", what)
        self._give_up(LinkLost(what))
        return ProtocolViolation(what)

    # --- answers (loop's thread) ------------------------------------------------------------------------------------

    def get_buffers(self) -> list[memoryview]:
        """As `transport.Sink`; so are `received`, `feed` and `over`."""
        return self._decoder.get_buffers()

    def received(self, count: int) -> None:
        self._take(count, self._decoder.received, count)

    def feed(self, data: Sequence[memoryview]) -> None:
        self._take(sum(map(len, data)), self._decoder.feed, data)

    def over(self) -> None:
        self._give_up(LinkLost("the server closed the connection"))

    def _take(self, count: int, decode: Callable[[T], list[Reply[Ask | Batch]]], what: T) -> None:
        if not self.alive:
            return
        self.last_received = self._loop.time()
        self.bytes_received += count
        try:
            replies = decode(what)
        except ProtocolViolation as violation:
            log.warning("the connection is dropped: %s", violation)
            self._give_up(violation)
            return
        for reply in replies:
            token = reply.token
            if isinstance(token, Ask):
                self._answer(token, reply)
            elif token.take(reply.request_id, reply.value):
                self._finish(token)

    def _answer(self, ask: Ask, reply: Reply[Ask | Batch]) -> None:
        self._waiting.pop(ask, None)
        self._latest = max(self._latest, ask.sent)
        now = self._loop.time()
        if ask.sent >= self._measured and ask.expected != PacketType.VERSION:  # `HELLO` was sent before
            self._measured, taken = now, now - ask.sent
            self.rtt = min(self.rtt or taken, taken)
            if self.saw_rtt is not None:
                self.saw_rtt(taken, ask.behind)
        value = reply.value
        if ask.future.done():
            return
        if isinstance(value, Status) and value.code != (
            Code.EOF if ask.expected == PacketType.NAME else Code.OK
        ):
            ask.future.set_exception(wire.error_of(value, ask.about))
        else:
            ask.future.set_result(value)

    def _tick(self) -> None:
        """Look after the connection: every second while something is due, else as rarely as a keepalive."""
        self._timer = None
        if not self.alive:
            return
        idle = self._loop.time() - self.last_received
        if self.silence > DEAD_AFTER:
            self._give_up(LinkLost(f"no answer for {self.silence:.0f} s"))
            return
        if self._waiting and self._latest - next(iter(self._waiting)).sent > OVERTAKEN:
            self._give_up(LinkLost("a request is not answered, others are"))
            return
        if not self._waiting and idle >= KEEPALIVE:
            self._request(PacketType.NAME, PacketType.REALPATH, b".").add_done_callback(seen)
        wait = 1.0 if self._waiting else max(0.5, min(KEEPALIVE, KEEPALIVE - idle))
        self._timer = self._loop.call_later(wait, self._tick)

    def _give_up(self, error: LinkLost) -> None:
        """Nothing more is sent or received; the requests in flight fail in the next step of the loop."""
        if self.ended is None:
            self.ended = error
            self.sound_until = self._loop.time() - self.silence
            self._reader.stop()
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        """Nothing more comes: hang up, and fail the requests in flight."""
        self._hang_up(self._transport.close)
        del self._transport  # so that it is freed without the garbage collector
        if self._timer is not None:
            self._timer.cancel()
        self._decoder.let_go()  # files that are open here may refer to this connection for a while
        waiting, self._waiting = self._waiting, {}
        culprit = self._decoder.culprit or (next(iter(waiting)) if len(waiting) == 1 else None)
        for item in waiting:
            if not item.future.done():
                item.future.set_exception(self._why(item, culprit))
                item.future.exception()

    def _hang_up(self, close: Callable[[], None]) -> None:
        # Closing may wait for a thread of paramiko's: not on the loop.
        try:
            threading.Thread(target=close, name="sftp close", daemon=True).start()
        except RuntimeError as error:
            log.warning("a connection is closed later: %s", error)
            self._loop.call_later(HANG_UP_AGAIN, self._hang_up, close)

    def _why(self, item: Ask | Batch, culprit: Ask | Batch | None) -> LinkLost:
        """The error of a request in flight; a violation counts for the one that caused it."""
        assert self.ended is not None
        if not isinstance(self.ended, ProtocolViolation) or (culprit is not None and culprit is not item):
            return LinkLost(str(self.ended))
        violation = ProtocolViolation(str(self.ended))
        violation.known = culprit is item
        return violation


def seen(future: asyncio.Future[Any]) -> None:
    """Mark the failure of a future without a waiter as seen."""
    if not future.cancelled():
        future.exception()
