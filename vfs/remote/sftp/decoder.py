"""Parses the stream of SFTP replies, without I/O. File data goes straight to its destination."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from vfs.base import errors
from vfs.remote.sftp import wire
from vfs.remote.sftp.wire import MAX_PACKET, U32, Code, PacketType, Status, Value, words

_TYPE_ID = struct.Struct(">BI")

Token = TypeVar("Token")


class Reply(NamedTuple, Generic[Token]):
    """One whole reply. `value`: for DATA the count of bytes that were put into the destination, for
    EXTENDED_REPLY the bytes behind the id, for the others what their names say."""

    token: Token
    request_id: int
    value: int | Value


class _Expected(NamedTuple, Generic[Token]):
    kind: int
    token: Token
    into: memoryview | None


VERSION_ID = -1
"""Stands for the id of an INIT, which has none."""
_SCRATCH = 4 + MAX_PACKET
_NEAR = 4 * 1024
_BULK = 32 * 1024


class Decoder(Generic[Token]):
    """Turns received bytes into replies.

    Receive into `get_buffers()`, then call `received(n)` with the number of bytes: it returns the replies that are complete.
    Memory is bounded by one packet and the destinations that were given. Not usable after a `ProtocolViolation`.
    """

    def __init__(self) -> None:
        self.pending: dict[int, _Expected[Token]] = {}
        """The requests that are not answered yet, oldest first."""
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._start = 0
        self._end = 0
        self._body: memoryview | None = None
        self._body_reply: Reply[Token] | None = None
        self._bulk = False
        self._surplus = 0
        """Bytes to come beyond those that were asked for."""
        self.culprit: Token | None = None
        """Whose answer is being looked at; after a violation that of the request it belongs to, if it is known."""

    def expect(self, request_id: int, kind: PacketType, token: Token, into: memoryview | None = None) -> None:
        """A request goes out whose answer is a `kind` (or a STATUS); DATA goes to `into`, which bounds it."""
        self.pending[request_id] = _Expected(kind, token, into)

    def let_go(self) -> None:
        """Nothing more comes: keep no memory for it."""
        self.pending.clear()
        self._scratch = memoryview(b"")

    def get_buffers(self) -> list[memoryview]:
        """Where to receive next, to be filled in turn; the first is not empty. Valid until `received` is called."""
        scratch, start, end = self._scratch, self._start, self._end
        if self._body is not None:  # the bytes before it were parsed
            return [self._body, scratch[:_NEAR]]
        if start:
            scratch[: end - start] = scratch[start:end]
            self._start, end = 0, end - start
            self._end = end
        # While bulk data comes, little is received here, so that little is copied to its destination.
        return [scratch[end : end + _NEAR] if self._bulk else scratch[end:]]

    def received(self, count: int) -> list[Reply[Token]]:
        """`count` bytes were put into the buffers; the replies that are whole. Raises `ProtocolViolation`."""
        replies: list[Reply[Token]] = []
        body = self._body
        if body is None:
            self._end += count
        elif count < len(body):
            self._body = body[count:]
            return replies
        else:
            self._end = count - len(body)
            self._whole_body(replies)
        if self._end:
            self._start = self._parse(self._scratch, self._start, self._end, replies)
            if self._start == self._end:
                self._start = self._end = 0
        return replies

    def feed(self, data: Iterable[memoryview]) -> list[Reply[Token]]:
        """As `received`, of bytes that lie elsewhere."""
        replies: list[Reply[Token]] = []
        for piece in data:
            body, size = self._body, len(piece)
            if body is not None and size < len(body):
                body[:size] = piece
                self._body = body[size:]
                continue
            rest = piece
            while rest:
                body = self._body
                if body is not None:
                    count = min(len(body), len(rest))
                    body[:count] = rest[:count]
                    if count < len(body):
                        self._body = body[count:]
                    else:
                        self._whole_body(replies)
                elif self._end:
                    into = self.get_buffers()[0]
                    count = min(len(into), len(rest))
                    into[:count] = rest[:count]
                    replies += self.received(count)
                else:
                    count = self._parse(rest, 0, len(rest), replies)
                    if self._body is None:  # the rest is not a whole packet
                        self._end = len(rest) - count
                        self._scratch[: self._end] = rest[count:]
                        break
                rest = rest[count:]
        return replies

    def _whole_body(self, replies: list[Reply[Token]]) -> None:
        reply = self._body_reply
        assert reply is not None
        self._body = self._body_reply = None
        del self.pending[reply.request_id]
        replies.append(reply)

    def _parse(self, data: memoryview, start: int, end: int, replies: list[Reply[Token]]) -> int:
        """Parse the whole packets in `data` from `start` to `end`; the place where the rest begins."""
        if self._surplus:
            skipped = min(self._surplus, end - start)
            self._surplus -= skipped
            start += skipped
        while end - start >= 4 and not self._surplus:
            (length,) = U32.unpack_from(data, start)
            if not 5 <= length <= MAX_PACKET:
                raise errors.ProtocolViolation(
                    f"not SFTP: {words(bytes(data[start : min(end, start + 80)]))!r}"
                )
            there = end - start - 4
            if there < 5:
                break
            kind, request_id = _TYPE_ID.unpack_from(data, start + 4)
            if kind == PacketType.DATA:
                if there < 9:
                    break
                self._bulk = length > _BULK
                size, expected = self._data(data, start, length, request_id)
                reply = Reply(expected.token, request_id, size)
                into = expected.into
                assert into is not None
                have = min(there - 9, size)
                start += 13
                into[:have] = data[start : start + have]
                start += have
                surplus = length - 9 - size
                skipped = min(surplus, end - start)
                start += skipped
                self._surplus = surplus - skipped
                if have < size:
                    self._body, self._body_reply = into[have:size], reply
                    break
                del self.pending[request_id]
                replies.append(reply)
            else:
                if there < length:
                    self._bulk = False
                    break
                packet = bytes(data[start + 4 : start + 4 + length])
                start += 4 + length
                replies.append(self._reply(kind, request_id, packet))
        return start

    def _data(
        self, data: memoryview, start: int, length: int, request_id: int
    ) -> tuple[int, _Expected[Token]]:
        """Check a DATA's head; how much of it was asked for, and whose it is."""
        expected = self.pending.get(request_id)
        if expected is None or expected.into is None or expected.kind != PacketType.DATA:
            raise errors.ProtocolViolation(f"data that nobody asked for (id {request_id})")
        self.culprit = expected.token
        (size,) = U32.unpack_from(data, start + 9)
        if size != length - 9 or not size:
            raise errors.ProtocolViolation(f"{size} bytes of data in a packet of {length}")
        self.culprit = None
        return min(size, len(expected.into)), expected  # lsh's server gives 8 bytes where 4 are asked for

    def _reply(self, kind: int, request_id: int, packet: bytes) -> Reply[Token]:
        if kind == PacketType.VERSION:
            request_id = VERSION_ID
        expected = self.pending.get(request_id)
        if expected is None:
            raise errors.ProtocolViolation(f"a reply that nobody waits for (type {kind}, id {request_id})")
        self.culprit = expected.token
        if kind not in (expected.kind, PacketType.STATUS) or (
            request_id == VERSION_ID and kind != PacketType.VERSION
        ):
            raise errors.ProtocolViolation(f"a reply of type {kind} where {expected.kind} was due")
        value = wire.parse(kind, packet)
        if isinstance(value, Status) and value.code == Code.OK and expected.kind != PacketType.STATUS:
            raise errors.ProtocolViolation("an empty success where an answer was due")
        self.culprit = None
        del self.pending[request_id]
        return Reply(expected.token, request_id, value)
