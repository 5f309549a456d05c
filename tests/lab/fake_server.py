"""An SFTP v3 server in memory, honest or as hostile as a test wants it, below the engine's transport seam.

It answers in the loop's next step, or `latency` seconds of the loop's time later. What it does wrong is a `twist`: a function
that is given a request and the honest answer, and returns what is sent instead. Its state is guarded by `Threads.changed`.
"""

from __future__ import annotations

import asyncio
import posixpath
import stat
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.lab.engine_threads import Threads
from vfs.base.errors import ConnectError
from vfs.remote.sftp.wire import MAX_READ, Code, PacketType
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.transport import HELLO, Sink

MTIME = 1_700_000_000
CLOCK = b"/proc/self"
"""A link by which the engine learns the server's time, and whether LSTAT follows links."""
NOW = 4_000_000_000
"""The server's time when it is asked for; it is not behind ours, so that it is believed at once."""
LIMITS = {b"limits@openssh.com": b"1"}
BATCH = 100
"""Names in one answer to READDIR, as OpenSSH has it."""


class Asked(NamedTuple):
    """A request: `text` is its path or handle, `tail` what comes behind that."""

    kind: int
    id: int
    text: bytes
    tail: bytes


Twist = Callable[[Asked, bytes], bytes]


def honest(asked: Asked, answer: bytes) -> bytes:
    """The twist of a server that does nothing wrong."""
    return answer


def in_turn(answers: list[bytes]) -> list[bytes]:
    """The order of a server that answers in the order in which it is asked."""
    return answers


def whole(size: int) -> int:
    """The length of what a server sends that gives as much as it is asked for."""
    return size


def nobody_refused(open_now: int) -> ConnectError | None:
    """The limit of a server that takes every connection."""
    return None


def text(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def packet(kind: int, request_id: int, body: bytes = b"") -> bytes:
    return text(struct.pack(">BI", kind, request_id) + body)


def status(request_id: int, code: int, words: bytes = b"") -> bytes:
    return packet(PacketType.STATUS, request_id, struct.pack(">I", code) + text(words) + text(b""))


def data(request_id: int, content: bytes) -> bytes:
    return packet(PacketType.DATA, request_id, text(content))


def attributes(mode: int, size: int, mtime: int = MTIME) -> bytes:
    return struct.pack(">IQIIIII", 0xF, size, 0, 0, mode, mtime, mtime)


def names(request_id: int, entries: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(text(name) + text(b"-") + attrs for name, attrs in entries)
    return packet(PacketType.NAME, request_id, struct.pack(">I", len(entries)) + body)


def version(number: int = 3, extensions: dict[bytes, bytes] | None = None) -> bytes:
    pairs = b"".join(text(name) + text(value) for name, value in (extensions or {}).items())
    return text(struct.pack(">BI", PacketType.VERSION, number) + pairs)


def scatter(data: bytes | memoryview, views: Sequence[memoryview]) -> int:
    """Put the beginning of `data` into `views`, in turn, as readv(2) does; how many bytes."""
    done = 0
    for view in views:
        part = data[done : done + len(view)]
        view[: len(part)] = part
        done += len(part)
    return done


@dataclass
class FakeServer:
    """Serves `files` (absolute path → content); directories are those above them.

    `order` may shuffle the answers to what was sent in one piece, `pieces` says how many bytes each receive brings at
    most, `shorten` how much of what a READ asks for is sent, `twist` changes single answers, `latency` delays them (seconds of the loop's time).
    """

    threads: Threads
    files: dict[bytes, bytes] = field(default_factory=dict)
    twist: Twist = honest
    order: Callable[[list[bytes]], list[bytes]] = in_turn
    shorten: Callable[[int], int] = whole
    pieces: Iterator[int] | None = None
    latency: float = 0.0
    extensions: dict[bytes, bytes] = field(default_factory=lambda: dict(LIMITS))
    sessions: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def connect(self) -> Session:
        """A new connection, as a transport for the engine."""
        session = Session(self)
        self.sessions.append(session)
        session.send(HELLO)
        return session

    @property
    def handles(self) -> int:
        """Handles that clients have open, over all live connections."""
        return sum(len(session.handles) for session in self.sessions if session.open)

    def asked(self, kind: int) -> list[Asked]:
        """The requests of a kind so far, over all connections."""
        return [asked for session in self.sessions for asked in session.asked if asked.kind == kind]


class Session:
    """One connection: a `Transport` on the engine's side, the server's view of it on the other."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.asked: list[Asked] = []
        self.handles: dict[bytes, bytes | deque[tuple[bytes, bytes]]] = {}
        self.open = True
        self.closed = False
        """Whether the client has hung up."""
        self.silent = False
        """While it is set nothing is answered, and nothing is closed: a black hole."""
        self._received = b""
        self._output = bytearray()
        self._numbers = 0
        self._sink: Sink | None = None

    # --- the transport ------------------------------------------------------------------------------------------

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        self._sink = sink
        self._pour()

    def _pour(self) -> None:
        """Give the client what has come, one receive in each step of the loop."""
        if self._sink is None or self.closed:
            return
        if self._output:
            most = next(self.server.pieces) if self.server.pieces is not None else len(self._output)
            count = scatter(bytes(self._output[:most]), self._sink.get_buffers())
            del self._output[:count]
            self._sink.received(count)
            self.server.loop.call_soon(self._pour)
        elif not self.open:
            self._sink.over()

    def send_now(self, data: bytes) -> int:
        with suppress(OSError):
            self.send(data)
            return len(data)
        return 0

    def send(self, data: bytes) -> None:
        with self.server.threads.changed:
            if self.closed or not self.open:
                raise OSError("the stream is closed")
            self._received += data
            answers = []
            for asked in self._requests():
                self.asked.append(asked)
                answers.append(self.server.twist(asked, self._answer(asked)))
            if not self.silent:
                self._deliver(self.server.order(answers))

    def close(self) -> None:
        self.closed = True

    # --- the server's side --------------------------------------------------------------------------------------

    def push(self, raw: bytes) -> None:
        """Send bytes that nobody asked for, or late."""
        self._output += raw
        self.server.loop.call_soon_threadsafe(self._pour)

    def end(self) -> None:
        """Close the connection once what was sent has been received."""
        self.open = False
        self.server.loop.call_soon_threadsafe(self._pour)

    def _deliver(self, answers: list[bytes]) -> None:
        raw = b"".join(answers)
        if self.server.latency:
            loop = self.server.loop
            loop.call_soon_threadsafe(loop.call_later, self.server.latency, self.push, raw)
        else:
            self.push(raw)

    def _requests(self) -> Iterator[Asked]:
        while len(self._received) >= 4:
            (length,) = struct.unpack_from(">I", self._received)
            if len(self._received) < 4 + length:
                return
            body, self._received = self._received[4 : 4 + length], self._received[4 + length :]
            if body[0] == PacketType.INIT:
                yield Asked(PacketType.INIT, 0, b"", b"")
            else:
                kind, number, size = struct.unpack_from(">BII", body)
                yield Asked(kind, number, body[9 : 9 + size], body[9 + size :])

    def _answer(self, asked: Asked) -> bytes:
        """The honest answer."""
        kind, number, name, _ = asked
        if kind == PacketType.INIT:
            return version(3, self.server.extensions)
        if kind == PacketType.CLOSE:
            known = self.handles.pop(name, None)
            return status(number, Code.FAILURE if known is None else Code.OK)
        if kind == PacketType.EXTENDED:
            limits = struct.pack(">4Q", 256 << 10, MAX_READ, MAX_READ, 100)
            return packet(PacketType.EXTENDED_REPLY, number, limits)
        if kind in (PacketType.READ, PacketType.FSTAT, PacketType.READDIR):
            return self._on_handle(asked, self.handles.get(name))
        if kind == PacketType.REALPATH:
            return names(number, [(posixpath.normpath(name) if name != b"." else b"/", b"\0\0\0\0")])
        attrs = self._attributes(name)
        if attrs is None:
            return status(number, Code.NO_SUCH_FILE, b"no such file")
        if kind == PacketType.LSTAT and name == CLOCK:
            attrs = attributes(stat.S_IFLNK | 0o777, 0, NOW)
        if kind in (PacketType.STAT, PacketType.LSTAT):
            return packet(PacketType.ATTRS, number, attrs)
        if kind in (PacketType.OPEN, PacketType.OPENDIR):
            self._numbers += 1
            handle = b"%d" % self._numbers
            self.handles[handle] = name if kind == PacketType.OPEN else deque(self._entries(name))
            return packet(PacketType.HANDLE, number, text(handle))
        return status(number, Code.OP_UNSUPPORTED)

    def _on_handle(self, asked: Asked, held: bytes | deque[tuple[bytes, bytes]] | None) -> bytes:
        kind, number, _, tail = asked
        if isinstance(held, deque) and kind == PacketType.READDIR:
            batch = [held.popleft() for _ in range(min(BATCH, len(held)))]
            return names(number, batch) if batch else status(number, Code.EOF)
        if not isinstance(held, bytes):
            return status(number, Code.FAILURE, b"no such handle")
        if kind == PacketType.FSTAT:
            return packet(PacketType.ATTRS, number, self._attributes(held) or b"")
        offset, size = struct.unpack(">QI", tail)
        if held not in self.server.files:  # a directory by now
            return status(number, Code.FAILURE, b"is a directory")
        content = self.server.files[held][offset : offset + self.server.shorten(size)]
        return data(number, content) if content else status(number, Code.EOF)

    def _attributes(self, path: bytes) -> bytes | None:
        content = self.server.files.get(path)
        if content is not None:
            return attributes(stat.S_IFREG | 0o644, len(content))
        if path == CLOCK:
            return attributes(stat.S_IFDIR | 0o555, 0, NOW)
        inside = path.rstrip(b"/") + b"/"
        there = any(name.startswith(inside) for name in self.server.files)
        return attributes(stat.S_IFDIR | 0o755, 4096) if there or path == b"/" else None

    def _entries(self, directory: bytes) -> list[tuple[bytes, bytes]]:
        inside = directory.rstrip(b"/") + b"/"
        found = {name[len(inside) :].split(b"/")[0] for name in self.server.files if name.startswith(inside)}
        own = attributes(stat.S_IFDIR | 0o755, 4096)
        return [(name, self._attributes(inside + name) or own) for name in (b".", b"..", *sorted(found))]


@dataclass
class FakeDialer:
    """Makes connections to a `FakeServer`.

    `refuse` is asked at each attempt, given how many connections are open; what it returns is raised.
    """

    server: FakeServer
    window_limited: bool = False
    transport = "paramiko"
    refuse: Callable[[int], ConnectError | None] = nobody_refused
    at: list[float] = field(default_factory=list)
    """When it was asked to connect, in the loop's time."""

    def dial(self, timeout: float) -> Session:
        with self.server.threads.changed:
            self.at.append(self.server.loop.time())
            open_now = sum(session.open and not session.closed for session in self.server.sessions)
            error = self.refuse(open_now)
            if error is not None:
                raise error
            return self.server.connect()
