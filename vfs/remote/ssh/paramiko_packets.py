"""Receives SSH packets under AES-GCM, or AES-CTR with an HMAC, in place of paramiko's `read_message`.

paramiko copies each packet seven times in pieces of 32 KiB, and reads the socket twice for it; this one decrypts it where it
was received, and gives views of that. Everything else is paramiko's.
Sources: RFC 4253, 6 (packets, MAC); RFC 4344, 4 (CTR); RFC 5647, 7 (AES-GCM); PROTOCOL of OpenSSH, 1.2 (-etm); RFC 4254,
5.2 (channel data). One thread at a time calls any of it: paramiko's of the session, or the event loop's.
"""

from __future__ import annotations

import errno
import hmac
import os
import queue
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from paramiko import Message, SSHException
from paramiko.packet import NeedRekeyException, Packetizer

from vfs.remote.ssh.loop_reader import LoopReader

RECEIVED = 512 << 10
"""Bytes of the buffer that is received into; `LARGEST` and a MAC fit."""

LARGEST = 300 << 10
"""Bytes of the largest packet that is accepted: a little more than the channel allows the server to send."""

BLOCK = 16
"""Bytes of AES's blocks, of which a packet is made."""

_LENGTH = struct.Struct(">I")
CHANNEL_DATA = 94
_CHANNEL_DATA = struct.Struct(">BBII")
"""A decrypted packet up to its data: the length of its padding, the kind, the channel, the length of the data."""
CHANNEL_DATA_HEAD = struct.Struct(">BII")
"""The beginning of such a packet's payload."""

TURN = 0.005
"""Seconds after which the event loop looks after others, though more has come."""


class BufferedSocket:
    """A socket for paramiko that receives up to half a mebibyte at once: paramiko asks for 16 bytes, then for the rest.

    The receiving calls are made by one thread at a time, paramiko's or the event loop's; all other calls go to the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._recv_into = sock.recv_into
        self._buffer = memoryview(bytearray(RECEIVED))
        self._start = self._end = 0

    def recv(self, count: int) -> bytes:
        """Between 1 and `count` bytes; none at the end. Raises as `socket.recv`."""
        start, end = self._start, self._end
        if start == end:
            start, end = 0, self._recv_into(self._buffer)
            self._end = end
        self._start = stop = min(end, start + count)
        return bytes(self._buffer[start:stop])

    @property
    def received(self) -> memoryview:
        """The bytes that were received and not taken, to be changed in place; valid until `fill` or `recv`."""
        return self._buffer[self._start : self._end]

    def fill(self, count: int, *, wait: bool = True) -> bool:
        """Receive once, with room for `count` bytes in all; whether there may be more.

        Raises as `socket.recv`, without `wait` BlockingIOError where nothing has come, and EOFError at the end.
        """
        start, end = self._start, self._end
        if start + count > RECEIVED or start == end:
            self._buffer[: end - start] = self._buffer[start:end]
            self._start, end = 0, end - start
            self._end = end
        free = self._buffer[end:]
        # A socket with a timeout, as ours, is waited for by `recv_into`; its descriptor does not block.
        received = self._recv_into(free) if wait else os.readv(self._sock.fileno(), [free])
        if not received:
            raise EOFError
        self._end = end + received
        return received == len(free)

    @property
    def waiting(self) -> bool:
        """Whether received bytes are left."""
        return self._start < self._end

    def took(self, count: int) -> None:
        """Drop the next `count` bytes."""
        self._start += count

    def let_go(self) -> None:
        """Free the buffer once paramiko's thread has ended; paramiko's objects live on until they are collected."""
        self._buffer = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class ChannelData:
    """CHANNEL_DATA, with the part of `Message` that paramiko uses for it; valid until more is received."""

    __slots__ = ("_payload", "seqno")

    def __init__(self, payload: memoryview) -> None:
        """`payload`: the channel's number, the data's length, the data."""
        self._payload = payload
        self.seqno = 0

    def get_int(self) -> int:
        """The channel's number."""
        return int.from_bytes(self._payload[:4], "big")

    def get_binary(self) -> bytes:
        """The data."""
        return bytes(self._payload[8 : 8 + int.from_bytes(self._payload[4:8], "big")])


class Cipher(Protocol):
    """Decrypts packets, in their order. A packet is a length (four bytes), as many bytes as that says, and a MAC."""

    head: int
    """Bytes needed to read the length."""
    mac: int
    """Bytes of the MAC, or tag."""
    clear: int
    """Bytes before the blocks: 4 where the length is not encrypted."""

    def length(self, data: memoryview, start: int) -> int:
        """Called once a packet, which begins at `start`, with at least `head` bytes of it."""
        ...

    def open(self, data: memoryview, start: int, end: int, number: int) -> memoryview:
        """The decrypted packet without length and MAC, perhaps in its own place. `number`: its sequence number, modulo 2**32.
        Raises if the MAC differs."""
        ...


class Gcm:
    """AES-GCM: the length is authenticated but not encrypted; the nonce holds a counter."""

    head, mac, clear = 4, 16, 4

    def __init__(self, engine: Any, nonce: bytes) -> None:
        self._decrypt_into = engine.decrypt_into
        self._fixed, self._counter = nonce[:4], int.from_bytes(nonce[4:], "big")

    def length(self, data: memoryview, start: int) -> int:
        return int(_LENGTH.unpack_from(data, start)[0])

    def open(self, data: memoryview, start: int, end: int, number: int) -> memoryview:
        counter, body = self._counter, start + 4
        self._counter = (counter + 1) & 0xFFFF_FFFF_FFFF_FFFF
        plain = data[body : end - 16]
        self._decrypt_into(self._fixed + counter.to_bytes(8, "big"), data[body:end], data[start:body], plain)
        return plain


class Ctr:
    """AES-CTR with the MAC over the plain text; the length is encrypted too."""

    head, clear = BLOCK, 0

    def __init__(self, engine: Any, key: bytes, digest: Any, mac: int) -> None:
        self._engine = engine
        self._hmac = hmac.new(key, digestmod=digest)
        self.mac = mac
        self._first = b""

    def length(self, data: memoryview, start: int) -> int:
        self._first = self._engine.update(data[start : start + BLOCK])
        return int.from_bytes(self._first[:4], "big")

    def open(self, data: memoryview, start: int, end: int, number: int) -> memoryview:
        packet, size = data[start:end], end - start - self.mac
        plain = memoryview(bytearray(size + BLOCK))  # update_into wants room for a block more
        plain[:BLOCK] = self._first
        self._engine.update_into(packet[BLOCK:size], plain[BLOCK:])
        self._check(plain[:size], packet[size:], number)
        return plain[4:size]

    def _check(self, data: memoryview, mac: memoryview, number: int) -> None:
        ours = self._hmac.copy()
        ours.update(number.to_bytes(4, "big"))
        ours.update(data)
        if not hmac.compare_digest(ours.digest()[: self.mac], mac):
            raise SSHException("a packet was changed on the way: its MAC does not fit")


class EtmCtr(Ctr):
    """AES-CTR with the MAC over the cipher text ("encrypt then MAC"); the length is not encrypted."""

    head, clear = 4, 4

    def length(self, data: memoryview, start: int) -> int:
        return int(_LENGTH.unpack_from(data, start)[0])

    def open(self, data: memoryview, start: int, end: int, number: int) -> memoryview:
        packet, size = data[start:end], end - start - self.mac
        self._check(packet[:size], packet[size:], number)
        return memoryview(self._engine.update(packet[4:size]))


class Packets(Packetizer):
    """A paramiko packetizer whose socket is a `BufferedSocket`.

    `divert` lets the event loop receive. Then paramiko's thread waits in `read_message` for messages that are not the channel's
    data, and nothing is received between such a message and the next `read_message`: it may have changed the keys.
    """

    buffered: BufferedSocket
    _cipher: Cipher | None = None
    _bytes = _packets = 0
    _needed = 0
    """Bytes of the packet that is being received; 0 while its length is not known."""
    _reader: LoopReader | None = None
    _rekeying = False

    def set_inbound_cipher(self, *arguments: Any, **more: Any) -> None:
        """Called by paramiko when a cipher (AES-GCM or AES-CTR) has been agreed on for all further packets."""
        super().set_inbound_cipher(*arguments, **more)
        if more.get("aead"):
            self._cipher = Gcm(more["block_engine"], more["iv_in"])
        else:
            kind = EtmCtr if more.get("etm") else Ctr
            self._cipher = kind(more["block_engine"], more["mac_key"], more["mac_engine"], more["mac_size"])
        self._bytes = self._packets = 0
        self._rekeying = False

    def divert(self, reader: LoopReader, channel: int, sink: Callable[[Sequence[memoryview]], None]) -> None:
        """From the next `read_message` on, `reader`'s loop receives, and calls `sink` with the data of `channel`. Any thread."""
        self._handed: queue.SimpleQueue[tuple[int, Any] | BaseException] = queue.SimpleQueue()
        self._channel = channel
        self._sink = sink
        self._reader = reader

    def close(self) -> None:
        """As paramiko's; a `read_message` that waits raises EOFError."""
        super().close()
        if self._reader is not None:
            self._sink = _nowhere  # it refers to this
            self._handed.put(EOFError())

    def read_message(self) -> tuple[int, Any]:
        """The next message and its kind. Raises as paramiko's: NeedRekeyException, SSHException, EOFError, OSError."""
        if self._cipher is None:
            return super().read_message()
        if self._reader is None:
            while (message := self._split(None, [])) is None:
                self._receive()
            return message
        self._reader.start(self.buffered.fileno(), self._take)
        handed = self._handed.get()
        if isinstance(handed, BaseException):
            raise handed
        return handed

    def _take(self) -> bool:
        """Receive what has come; False when paramiko's thread was handed something. The event loop's thread."""
        handed: tuple[int, Any] | BaseException | None
        more, end = True, time.monotonic() + TURN
        try:
            while (handed := self._give()) is None and more:
                more = self._fill(wait=False) and time.monotonic() < end
            if handed is None and self.need_rekey() and not self._rekeying:
                self._rekeying = True
                handed = NeedRekeyException()
        except BlockingIOError:
            handed = None
        except Exception as failure:  # noqa: BLE001  raised by `read_message`
            handed = EOFError() if self.closed else failure
        if handed is not None:
            self._handed.put(handed)
        return handed is None

    def _give(self) -> tuple[int, Any] | None:
        """Give the channel's data that have come to the sink, up to a message that is something else: that one."""
        data: list[memoryview] = []
        try:
            return self._split(self._channel, data)
        finally:
            if data:
                self._sink(data)

    def _split(self, ours: int | None, data: list[memoryview]) -> tuple[int, Any] | None:
        """Append the data of our channel in the packets that have come, up to a message that is something else: that one."""
        cipher, received, needed = self._cipher, self.buffered.received, self._needed
        assert cipher is not None
        mine = (
            self.__dict__
        )  # the counter is paramiko's, which counts until the first cipher, and may reset it
        first = number = mine["_Packetizer__sequence_number_in"]
        message, start, end, head = None, 0, len(received), cipher.head
        while message is None:
            if not needed:
                if end - start < head:
                    break
                length = cipher.length(received, start)
                if not BLOCK - 4 <= length <= LARGEST or (4 + length - cipher.clear) % BLOCK:
                    raise SSHException(f"a packet of {length} bytes")
                needed = 4 + length + cipher.mac
            if end - start < needed:
                break
            plain = cipher.open(received, start, start + needed, number & 0xFFFF_FFFF)
            start, needed = start + needed, 0
            padding, kind, channel, size = _CHANNEL_DATA.unpack_from(plain)
            if kind == CHANNEL_DATA and channel == ours and size + padding + 10 <= len(plain):
                data.append(plain[10 : 10 + size])
            else:
                message = self._message(plain[1 : max(1, len(plain) - padding)], number & 0xFFFF_FFFF)
            number += 1
        mine["_Packetizer__sequence_number_in"] = number & 0xFFFF_FFFF
        self._needed = needed
        self.buffered.took(start)
        self._count(number - first, start)
        return message

    def _receive(self) -> None:
        """Receive once, for paramiko's thread."""
        try:
            self._fill(wait=True)
        except OSError as error:
            if self.closed or self.handshake_timed_out():
                raise EOFError from error
            if not isinstance(error, TimeoutError) and error.errno != errno.EAGAIN:
                raise
            if self.need_rekey() and not self.buffered.waiting:
                raise NeedRekeyException from error

    def _fill(self, *, wait: bool) -> bool:
        assert self._cipher is not None
        return self.buffered.fill(self._needed or self._cipher.head, wait=wait)

    def _message(self, payload: memoryview, number: int) -> tuple[int, Any]:
        """A message, as paramiko takes it, and its kind."""
        if not payload:
            raise SSHException("an empty packet")
        kind = payload[0]
        if kind == CHANNEL_DATA and len(payload) >= 9:
            return kind, ChannelData(payload[1:])
        message = Message(bytes(payload[1:]))
        message.seqno = number
        return kind, message

    def _count(self, packets: int, size: int) -> None:
        """Ask for new keys at the limits (RFC 4253, 9); end the session if they are passed twice without new keys."""
        self._bytes += size
        self._packets += packets
        if self._bytes >= self.REKEY_BYTES or self._packets >= self.REKEY_PACKETS:
            if self.need_rekey():
                raise SSHException("the server does not agree on new keys")
            self._bytes = self._packets = 0
            cast("Any", self)._trigger_rekey()


def _nowhere(_: Sequence[memoryview]) -> None:
    pass


def receive_packets(packetizer: Packetizer, buffered: BufferedSocket) -> None:
    """Make `packetizer`, whose socket is `buffered`, a `Packets`."""
    packetizer.__class__ = Packets
    assert isinstance(packetizer, Packets)
    packetizer.buffered = buffered
