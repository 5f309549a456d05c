"""One SFTP connection: pipelined requests over one transport, a reader thread and a writer thread.

The event loop's thread asks; the writer thread sends; the reader thread receives, straight into the destination of a
READ, and hands whole answers to the loop, many with one wake-up. `_queue` (a lock of its own inside `SimpleQueue`) is
all that the threads share besides the decoder's table, whose single operations are atomic.

A request fails with `LinkLost` only after the reader thread has ended: from then on nobody writes into its buffer.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from vfs.base.errors import LinkError, LinkLost, NoThread, ProtocolViolation, RemoteError
from vfs.remote.api import Attributes, DirEntry, FsStats
from vfs.remote.sftp import wire
from vfs.remote.sftp.batch import Batch, Refused
from vfs.remote.sftp.decoder import Decoder, Reply
from vfs.remote.sftp.handles import Handle, Handles
from vfs.remote.sftp.wire import Code, Kind, Status
from vfs.remote.ssh.transport import Transport, receive

log = logging.getLogger(__name__)
T = TypeVar("T")

DEAD_AFTER = 5.0
"""Seconds without a byte, while an answer is due, after which a connection is given up."""
KEEPALIVE = 5.0
"""Seconds without traffic after which the server is asked for a sign of life: within ten, a dead link is found."""
HANG_UP_AGAIN = 1.0
"""Seconds until a transport that could not be closed, since no thread can be started, is closed after all."""
OVERTAKEN = 30.0
"""Seconds by which requests sent later may be answered earlier; then a server is not going to answer at all."""


SMALL_ANSWER = 2048
"""Bytes that an answer without file data is taken for: a page of a listing is more, attributes are less."""


@dataclass(slots=True, eq=False)
class Ask:
    """One request of one answer."""

    future: asyncio.Future[Any]
    about: bytes
    sent: float
    expected: Kind
    behind: int
    """Bytes that were due before its answer."""


class Connection:
    """An SFTP session. Made on the loop's thread; `start` shakes hands; `close` may be called at any time.

    `lost` is called on the loop's thread, once, when the connection has ended.
    """

    def __init__(self, transport: Transport, lost: Callable[[Connection], None]) -> None:
        self._transport = transport
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._decoder: Decoder[Ask | Batch] = Decoder()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ids = 0
        self._done: deque[Ask | Batch | tuple[Ask, Reply[Ask | Batch]]] = deque()
        self._scheduled = False
        self._waiting: dict[Ask | Batch, None] = {}
        self._ended: LinkError | None = None
        self._error: LinkError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_size = wire.DEFAULT_READ
        self._statvfs = False
        self.refused: set[Kind] = set()
        """Requests that this server refuses whatever they are about; see `substitutes`."""
        self._handles = Handles(lambda text: self._request(Kind.STATUS, wire.request, Kind.CLOSE, text))
        self._latest = 0.0
        """When the youngest request that was answered so far was sent."""
        self.last_received = self._loop.time()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.requests = 0
        self.in_flight = 0
        """Bytes of reads asked for and not yet answered, and of those that wait until their file is open here."""
        self.rtt = 0.0
        """The smallest time to an answer so far, in seconds."""
        self.saw_rtt: Callable[[float, int], None] | None = None
        """Told the time to an answer, in seconds, and the bytes that were due before it, once in each round trip."""
        self.load: Callable[[], int] = lambda: self.due_bytes
        """Bytes that are due on the link."""
        self._measured = 0.0
        """When a round trip was last measured."""
        self.sound_until = 0.0
        """When it ended or, with an answer due then, from when on nothing came."""
        self.server_clock: tuple[int, float] | None = None
        """The server's time (Unix seconds) and the loop's, not earlier than that: together a low estimate."""
        self._threads = [
            threading.Thread(target=self._receive, name="sftp reader", daemon=True),
            threading.Thread(target=self._send, name="sftp writer", daemon=True),
        ]

    def __repr__(self) -> str:
        state = "ended" if self._ended is not None else "open"
        return f"<Connection {state}, {len(self._waiting)} waiting, {self.in_flight} bytes under way>"

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return self._ended is None and self._error is None

    @property
    def ended(self) -> LinkError | None:
        """Why it has ended; None while it has not."""
        return self._ended

    @property
    def due(self) -> float | None:
        """When the oldest request that is not answered was sent; None if there is none."""
        return next(iter(self._waiting)).sent if self._waiting else None

    @property
    def due_bytes(self) -> int:
        """Bytes that are due on this connection, small answers by estimate."""
        return self.in_flight + SMALL_ANSWER * len(self._waiting)

    @property
    def silence(self) -> float:
        """Seconds for which an answer is due and no byte has come."""
        due = self.due
        return 0.0 if due is None else max(0.0, self._loop.time() - max(due, self.last_received))

    async def start(self) -> None:
        """Shake hands, and learn the server's limits and clock.

        Raises LinkLost, ProtocolViolation, NoThread, and ConnectError when the transport found out why nothing came.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise NoThread(str(error)) from error
        self._tick()
        ask = Ask(self._loop.create_future(), b"", self._loop.time(), Kind.VERSION, 0)
        self._decoder.expect_version(ask)
        self._await(ask)
        self._queue.put(wire.init())
        version = await ask.future
        self._statvfs = b"statvfs@openssh.com" in version.extensions
        clock = self._request(Kind.ATTRS, wire.request, Kind.STAT, b"/proc/self")
        if b"limits@openssh.com" in version.extensions:
            try:
                limits = await self._extended(b"limits@openssh.com", None, wire.parse_limits)
                self._handles.limit(limits.handles)
                if limits.read:
                    self._read_size = min(max(limits.read, 4096), wire.MAX_READ)
            except RemoteError as error:
                log.debug("no limits: %s", error)
        try:
            # The inode of our own server process is made at this first look, so its mtime is the present time.
            attributes = await clock
            if attributes.mtime > 0:
                self.server_clock = attributes.mtime, self._loop.time()
        except RemoteError as error:
            log.debug("no clock: %s", error)

    def close(self) -> None:
        """Hang up. What waits fails with LinkLost once the reader thread has ended."""
        self._give_up(LinkLost("the connection was closed"))

    # --- requests (loop's thread) -------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> asyncio.Future[Attributes]:
        return self._request(Kind.ATTRS, wire.request, Kind.LSTAT, path)

    def stat(self, path: bytes) -> asyncio.Future[Attributes]:
        return self._request(Kind.ATTRS, wire.request, Kind.STAT, path)

    async def readlink(self, path: bytes) -> bytes:
        """The text of a link, whatever the server says it is."""
        return self._one_name(await self._request(Kind.NAME, wire.request, Kind.READLINK, path))

    async def realpath(self, path: bytes) -> bytes:
        """An absolute path without `.`, `..` or NUL."""
        path = self._one_name(await self._request(Kind.NAME, wire.request, Kind.REALPATH, path))
        if not path.startswith(b"/"):
            raise self.violated(f"a real path that is not absolute: {path!r}")
        return posixpath.normpath(path)

    async def statvfs(self, path: bytes) -> FsStats | None:
        """None where the server does not offer it."""
        if not self._statvfs:
            return None
        return await self._extended(b"statvfs@openssh.com", path, wire.parse_statvfs)

    def open(self, path: bytes) -> asyncio.Future[Handle]:
        """The handle of a file opened for reading."""
        return self._handles.open(
            lambda: self._request(Kind.HANDLE, _open_packet, None, path),
            lambda: self.stat(path) if Kind.FSTAT in self.refused else None,
        )

    def opendir(self, path: bytes) -> asyncio.Future[Handle]:
        """The handle of a directory; the caller closes it."""
        return self._handles.open(
            lambda: self._request(Kind.HANDLE, wire.request, Kind.OPENDIR, path), directory=True
        )

    def close_handle(self, handle: Handle) -> None:
        """Close a handle without waiting. Idempotent."""
        if self.alive:
            self._handles.close(handle)

    def readdir(self, handle: Handle, about: bytes) -> asyncio.Future[list[DirEntry] | Status]:
        """Some more names, or the status that says there are none."""
        return self._request(Kind.NAME, wire.request, Kind.READDIR, handle.text, about=about)

    def read(
        self, handle: Handle, offset: int, into: memoryview, about: bytes, since: float = 0.0
    ) -> asyncio.Future[tuple[int, Attributes]]:
        """Fill `into` from `offset` of the file at the path `about`, which `handle` is open for.

        The count (short at the end of the file), and the attributes after the last byte. `since`: when the caller began,
        in the loop's time; where the server refuses FSTAT and the path has changed since the OPEN, an older handle will
        not do. Raises LinkLost when it is to be asked again, the handle perhaps opened anew.
        """
        batch = Batch(self._loop.create_future(), handle, offset, into, self._loop.time(), about, since)
        if not self.alive or not handle.open:
            batch.future.set_exception(LinkLost("the connection has ended"))
            return batch.future
        self.in_flight += len(into)
        self._handles.begin(handle)
        self._ask_parts(batch, batch.split(self._read_size))
        return batch.future

    def _ask_parts(self, batch: Batch, parts: list[tuple[int, int]]) -> None:
        packets = []
        batch.missing = len(parts) + 1
        for at, length in parts:
            number = self._next_id()
            batch.parts[number] = at, length
            self._decoder.expect(number, Kind.DATA, batch, batch.into[at : at + length])
            packets.append(wire.read(number, batch.handle.text, batch.offset + at, length))
        number = self._next_id()
        self._decoder.expect(number, Kind.ATTRS, batch)
        if batch.handle.before is None:
            packets.append(wire.request(Kind.FSTAT, number, batch.handle.text))
        else:
            packets.append(wire.request(Kind.STAT, number, batch.about))
        self.requests += len(packets)
        self._await(batch)
        self._queue.put(b"".join(packets))

    def _request(
        self, expected: Kind, encode: Any, kind: Kind | None, text: bytes, *, about: bytes | None = None
    ) -> asyncio.Future[Any]:
        number = self._next_id()
        packet = encode(number, text) if kind is None else encode(kind, number, text)
        return self._put(expected, number, packet, text if about is None else about)

    async def _extended(self, name: bytes, path: bytes | None, parse: Callable[[bytes], T]) -> T:
        number = self._next_id()
        packet = wire.extended(number, name, path)
        answer = await self._put(Kind.EXTENDED_REPLY, number, packet, path or name)
        try:
            return parse(answer)
        except ProtocolViolation as violation:
            raise self.violated(str(violation)) from None

    def _put(self, expected: Kind, number: int, packet: bytes, about: bytes) -> asyncio.Future[Any]:
        ask = Ask(self._loop.create_future(), about, self._loop.time(), expected, self.load())
        if not self.alive:
            ask.future.set_exception(LinkLost("the connection has ended"))
            return ask.future
        self._decoder.expect(number, expected, ask)
        self._await(ask)
        self.requests += 1
        self._queue.put(packet)
        return ask.future

    def _await(self, item: Ask | Batch) -> None:
        if not self._waiting and self._timer is not None and self._timer.when() > item.sent + DEAD_AFTER:
            self._timer.cancel()  # it was set when nothing was due
            self._timer = self._loop.call_later(DEAD_AFTER, self._tick)
        self._waiting[item] = None

    def _next_id(self) -> int:
        self._ids = (self._ids + 1) & 0xFFFFFFFF
        return self._ids

    def _one_name(self, entries: list[DirEntry] | Status) -> bytes:
        if isinstance(entries, Status) or len(entries) != 1 or b"\0" in entries[0].name:
            raise self.violated("one path was due")
        return entries[0].name

    def violated(self, what: str) -> ProtocolViolation:
        """What to raise; the connection is dropped."""
        log.warning("the connection is dropped: %s", what)
        self._give_up(LinkLost(what))
        return ProtocolViolation(what)

    # --- answers (loop's thread) ------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        self._scheduled = False
        while self._done:
            item = self._done.popleft()
            if isinstance(item, Batch):
                self._finish(item)
            elif isinstance(item, tuple):
                self._answer(*item)

    def _answer(self, ask: Ask, reply: Reply[Ask | Batch]) -> None:
        self._waiting.pop(ask, None)
        self._latest = max(self._latest, ask.sent)
        now = self._loop.time()
        if ask.sent >= self._measured:
            self._measured, taken = now, now - ask.sent
            self.rtt = min(self.rtt or taken, taken)
            if self.saw_rtt is not None:
                self.saw_rtt(taken, ask.behind)
        value = reply.value
        if ask.future.done():
            return
        if isinstance(value, Status) and value.code != (Code.EOF if ask.expected == Kind.NAME else Code.OK):
            ask.future.set_exception(wire.error_of(value, ask.about))
        else:
            ask.future.set_result(value)

    def _finish(self, batch: Batch) -> None:
        """All answers of a batch are there: done, or the rest of what came short is asked for."""
        self._waiting.pop(batch, None)
        self._latest = max(self._latest, batch.sent)
        again = [] if batch.failed else batch.end_round()
        if again and self.alive:
            # A short answer in the middle is allowed [6.4]; what is missing is asked for once more.
            batch.sent = self._loop.time()
            self._ask_parts(batch, again)
            return
        self.in_flight -= len(batch.into)
        outcome = batch.outcome(unfinished=bool(again))
        self._handles.end(batch.handle)
        if isinstance(outcome, Refused):
            self.refused.add(Kind.FSTAT)
            log.info("the server refuses FSTAT (%s); STAT of the path takes its place", outcome)
        if isinstance(outcome, LinkLost):
            self.close_handle(batch.handle)
        if batch.future.done():
            return
        if isinstance(outcome, tuple):
            batch.future.set_result(outcome)
        else:
            batch.future.set_exception(outcome)

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
            self._request(Kind.NAME, wire.request, Kind.REALPATH, b".").add_done_callback(seen)
        wait = 1.0 if self._waiting else max(0.5, min(KEEPALIVE, KEEPALIVE - idle))
        self._timer = self._loop.call_later(wait, self._tick)

    def _give_up(self, error: LinkError) -> None:
        if self._error is None:
            self._error = error
            self.sound_until = self._loop.time() - self.silence
            self._queue.put(None)
            self._hang_up()

    def _hang_up(self) -> None:
        # Closing may wait for a thread of paramiko's: not on the loop.
        closing = threading.Thread(target=self._transport.close, name="sftp close", daemon=True)
        try:
            closing.start()
        except RuntimeError as error:
            log.warning("a connection is closed later: %s", error)
            self._loop.call_later(HANG_UP_AGAIN, self._hang_up)

    def _end(self, error: LinkError) -> None:
        """The reader thread is about to end: nothing more comes."""
        self._deliver()
        self._ended = self._error or error
        self._give_up(self._ended)
        if self._timer is not None:
            self._timer.cancel()
        self._decoder.let_go()  # whoever has a file open here may remember this connection for a while
        waiting, self._waiting = self._waiting, {}
        self.in_flight = 0
        self._handles.fail(LinkLost(str(self._ended)))
        culprit = self._decoder.culprit or (next(iter(waiting)) if len(waiting) == 1 else None)
        for item in waiting:
            if not item.future.done():
                item.future.set_exception(self._why(item, culprit))
                item.future.exception()
        self._lost(self)

    def _why(self, item: Ask | Batch, culprit: Ask | Batch | None) -> LinkError:
        """What a request that was under way fails with; a violation counts for the one that caused it."""
        assert self._ended is not None
        if not isinstance(self._ended, LinkLost):  # the transport found out why
            return type(self._ended)(str(self._ended))
        if not isinstance(self._ended, ProtocolViolation) or (culprit is not None and culprit is not item):
            return LinkLost(str(self._ended))
        violation = ProtocolViolation(str(self._ended))
        violation.known = culprit is item
        return violation

    # --- threads ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        decoder, transport = self._decoder, self._transport
        error: LinkError = LinkLost("the connection failed")

        def received(count: int) -> None:
            self.last_received = self._loop.time()
            self.bytes_received += count
            for reply in decoder.received(count):
                self._take(reply)

        try:
            receive(transport, decoder.get_buffers, received)
            error = LinkLost("the server closed the connection")
        except ProtocolViolation as violation:
            log.warning("the connection is dropped: %s", violation)
            error = violation
        except (OSError, EOFError) as failure:
            error = LinkLost(str(failure))
        finally:  # whatever happens: nobody may wait for a thread that is gone
            if not self.bytes_received and transport.error is not None:
                error = transport.error
            self._call(self._end, error)

    def _take(self, reply: Reply[Ask | Batch]) -> None:
        token = reply.token
        if isinstance(token, Ask):
            self._done.append((token, reply))
        elif token.take(reply.request_id, reply.value):
            self._done.append(token)
        else:
            return
        if not self._scheduled:
            self._scheduled = True
            self._call(self._deliver)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended")

    def _send(self) -> None:
        while True:
            packets = [self._queue.get()]
            while not self._queue.empty():
                packets.append(self._queue.get())
            data = b"".join(packet for packet in packets if packet is not None)
            try:
                if data:
                    self._transport.send(data)
                    self.bytes_sent += len(data)
            except (OSError, EOFError) as error:
                log.debug("cannot send: %s", error)
                self._call(self._give_up, LinkLost(f"cannot send: {error}"))
                return
            if None in packets:
                return


def _open_packet(number: int, path: bytes) -> bytes:
    return wire.open_for_reading(number, path)


def seen(future: asyncio.Future[Any]) -> None:
    """A failure that nobody waits for has been seen."""
    if not future.cancelled():
        future.exception()
