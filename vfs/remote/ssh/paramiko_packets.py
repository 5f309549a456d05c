"""Receives SSH packets under AES-GCM, or AES-CTR with an HMAC, in place of paramiko's `read_message`, once SFTP has begun.

paramiko copies each packet seven times in pieces of 32 KiB, and reads the socket twice for it; this one decrypts it where it
was received, and gives views of that. Everything else is paramiko's.
Sources: RFC 4253, 6 (packets, MAC); RFC 4344, 4 (CTR); RFC 5647, 7 (AES-GCM); PROTOCOL of OpenSSH, 1.2 (-etm); RFC 4254,
5.2 (channel data). One thread at a time calls any of it: paramiko's of the session, or the event loop's.
"""

from __future__ import annotations

import hmac
import os
import queue
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


class Received:
    """The bytes that were received from a socket and not taken yet; it is asked for up to half a mebibyte at once."""

    def __init__(self, fd: int) -> None:
        """`fd` does not block."""
        self.fd = fd
        self._buffer = memoryview(bytearray(RECEIVED))
        self._start = self._end = 0

    @property
    def bytes(self) -> memoryview:
        """They may be changed in place; valid until `fill`."""
        return self._buffer[self._start : self._end]

    def fill(self, count: int) -> bool:
        """Receive once, with room for `count` bytes in all; whether there may be more.

        Raises BlockingIOError where nothing has come, EOFError at the end, and OSError.
        """
        start, end = self._start, self._end
        if start + count > RECEIVED or start == end:
            self._buffer[: end - start] = self._buffer[start:end]
            self._start, end = 0, end - start
            self._end = end
        free = self._buffer[end:]
        received = os.readv(self.fd, [free])
        if not received:
            raise EOFError
        self._end = end + received
        return received == len(free)

    def took(self, count: int) -> None:
        """Drop the next `count` bytes."""
        self._start += count


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
    """A paramiko packetizer, which is paramiko's own until `divert` lets the event loop receive.

    Then paramiko's thread waits in `read_message` for messages that are not the channel's data, and nothing is received between
    such a message and the next `read_message`: it may have changed the keys.
    """

    _cipher: Cipher | None = None
    _bytes = _packets = 0
    _needed = 0
    """Bytes of the packet that is being received; 0 while its length is not known."""
    _reader: LoopReader | None = None
    _rekeying = False

    def set_inbound_cipher(self, *arguments: Any, **more: Any) -> None:
        """Called by paramiko when a cipher (AES-GCM or AES-CTR) has been agreed on for all further packets."""
        super().set_inbound_cipher(*arguments, **more)
        self._keys, self._cipher = more, None
        self._bytes = self._packets = 0
        self._rekeying = False

    def divert(
        self, reader: LoopReader, fd: int, channel: int, sink: Callable[[Sequence[memoryview]], None]
    ) -> None:
        """From the next `read_message` on, `reader`'s loop receives from the socket `fd`, and calls `sink` with the data of
        `channel`. Any thread."""
        self._handed: queue.SimpleQueue[tuple[int, Message] | BaseException] = queue.SimpleQueue()
        self._received = Received(fd)
        self._channel = channel
        self._sink = sink
        self._reader = reader

    def close(self) -> None:
        """As paramiko's; a `read_message` that waits raises EOFError."""
        super().close()
        if self._reader is not None:
            self._sink = _nowhere  # it refers to this
            self._handed.put(EOFError())

    def let_go(self) -> None:
        """Free the buffer once paramiko's thread has ended; paramiko's objects live on until they are collected."""
        if self._reader is not None:
            del self._received

    def read_message(self) -> tuple[int, Message]:
        """The next message and its kind. Raises as paramiko's: NeedRekeyException, SSHException, EOFError, OSError."""
        if self._reader is None:
            return super().read_message()
        self._cipher = self._cipher or self._new_cipher()
        self._reader.start(self._received.fd, self._take)
        handed = self._handed.get()
        if isinstance(handed, BaseException):
            raise handed
        return handed

    def _new_cipher(self) -> Cipher:
        """The cipher, from where paramiko has come with it."""
        keys = self._keys
        if keys.get("aead"):
            return Gcm(keys["block_engine"], self.__dict__["_Packetizer__iv_in"])
        kind = EtmCtr if keys.get("etm") else Ctr
        return kind(keys["block_engine"], keys["mac_key"], keys["mac_engine"], keys["mac_size"])

    def _take(self) -> bool:
        """Receive what has come; False when paramiko's thread was handed something. The event loop's thread."""
        handed: tuple[int, Message] | BaseException | None
        more, end = True, time.monotonic() + TURN
        try:
            while (handed := self._give()) is None and more:
                more = self._received.fill(self._needed or BLOCK) and time.monotonic() < end
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

    def _give(self) -> tuple[int, Message] | None:
        """Give the channel's data that have come to the sink, up to a message that is something else: that one."""
        data: list[memoryview] = []
        try:
            return self._split(self._channel, data)
        finally:
            if data:
                self._sink(data)

    def _split(self, ours: int, data: list[memoryview]) -> tuple[int, Message] | None:
        """Append the data of our channel in the packets that have come, up to a message that is something else: that one."""
        cipher, received, needed = self._cipher, self._received.bytes, self._needed
        assert cipher is not None
        mine = self.__dict__  # the counter is paramiko's, which counts until then, and may reset it
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
        self._received.took(start)
        self._count(number - first, start)
        return message

    def _message(self, payload: memoryview, number: int) -> tuple[int, Message]:
        """A message, as paramiko takes it, and its kind."""
        if not payload:
            raise SSHException("an empty packet")
        message = Message(bytes(payload[1:]))
        message.seqno = number
        return payload[0], message

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
