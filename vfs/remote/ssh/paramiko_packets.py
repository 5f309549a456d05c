"""SSH packets under AES-GCM, received without paramiko's copies of them.

paramiko's own `read_message` copies each packet seven times in pieces of 32 KiB, and asks the socket twice for it; this
one decrypts it where it came, and copies what a channel gets once. Everything but receiving under AES-GCM is paramiko's.
Sources: RFC 4253, 6 (packets); RFC 5647, 7 (AES-GCM: the length is in the clear, a counter is in the nonce); RFC 4254,
5.2 (channel data). Only paramiko's one thread of the session calls any of it.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from paramiko import Message, SSHException
from paramiko.packet import NeedRekeyException, Packetizer

RECEIVED = 512 << 10
"""Bytes of the buffer that is received into; a packet that is larger (none should be) goes paramiko's own way."""

TAG = 16
"""Bytes of AES-GCM's tag behind each packet."""

LARGEST = 300 << 10
"""Bytes of the largest packet that is believed: what the channel allows the server to send, and some more."""

CHANNEL_DATA = 94


class BufferedSocket:
    """A socket for paramiko that receives much at a time: paramiko asks for 16 bytes, then for the rest of a packet.

    `recv` and `need` are called by paramiko's one thread only; everything else goes to the socket as it is.
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

    def need(self, count: int) -> memoryview | None:
        """The next `count` bytes, which stay there until `took`; None when they have not all come.

        Receives once where there are too few. Raises as `socket.recv`, and EOFError at the end.
        """
        start, end = self._start, self._end
        if end - start < count:
            if start + count > RECEIVED or start == end:
                self._buffer[: end - start] = self._buffer[start:end]
                start, end = 0, end - start
                self._start, self._end = start, end
            received = self._recv_into(self._buffer[end:])
            if not received:
                raise EOFError
            self._end = end = end + received
            if end - start < count:
                return None
        return self._buffer[start : start + count]

    @property
    def waiting(self) -> bool:
        """Whether something has come that was not taken."""
        return self._start < self._end

    def took(self, count: int) -> None:
        """The next `count` bytes are done with."""
        self._start += count

    def let_go(self) -> None:
        """paramiko's thread has ended: keep no memory for what comes. What paramiko made lasts until it is collected."""
        self._buffer = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class ChannelData:
    """A message with data for a channel, as far as paramiko looks into it."""

    __slots__ = ("_payload", "_view", "seqno")

    def __init__(self, payload: memoryview, *, view: bool) -> None:
        """`payload`: the channel's number, the length of the data, the data. `view`: the data may be given as a view."""
        self._payload = payload
        self._view = view
        self.seqno = 0

    def get_int(self) -> int:
        """The channel's number."""
        return int.from_bytes(self._payload[:4], "big")

    def get_binary(self) -> memoryview | bytes:
        """The data."""
        data = self._payload[8 : 8 + int.from_bytes(self._payload[4:8], "big")]
        return data if self._view else bytes(data)


class Packets(Packetizer):
    """A paramiko packetizer whose socket is a `BufferedSocket`."""

    views = False
    """Whether all channels of the session take their data as views of it."""
    buffered: BufferedSocket
    _cipher: Any = None
    _fixed = b""
    _counter = 0
    _bytes = _packets = 0

    def set_inbound_cipher(self, *arguments: Any, **more: Any) -> None:
        """paramiko has agreed on a cipher for what comes from now on."""
        super().set_inbound_cipher(*arguments, **more)
        self._cipher = more["block_engine"] if more.get("aead") else None
        self._bytes = self._packets = 0
        if self._cipher is not None:
            self._fixed, self._counter = more["iv_in"][:4], int.from_bytes(more["iv_in"][4:], "big")

    def read_message(self) -> tuple[int, Any]:
        """The next message and its kind. Raises as paramiko's: NeedRekeyException, SSHException, EOFError, OSError."""
        if self._cipher is None:
            return super().read_message()
        packet = self._packet()
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        plain = memoryview(self._cipher.decrypt(nonce, packet[4:], packet[:4]))
        self._counter = (self._counter + 1) & 0xFFFF_FFFF_FFFF_FFFF
        self.buffered.took(len(packet))
        self._count(len(packet))
        payload = plain[1 : len(plain) - plain[0]]
        if not payload:
            raise SSHException("an empty packet")
        kind = payload[0]
        if kind == CHANNEL_DATA and len(payload) >= 9:
            return kind, ChannelData(payload[1:], view=self.views)
        message = Message(bytes(payload[1:]))
        message.seqno = 0
        return kind, message

    def _packet(self) -> memoryview:
        count = 4
        while True:
            try:
                found = self.buffered.need(count)
            except OSError as error:
                if self.closed or self.handshake_timed_out():
                    raise EOFError from error
                if not isinstance(error, TimeoutError) and error.errno != errno.EAGAIN:
                    raise
                if self.need_rekey() and not self.buffered.waiting:
                    raise NeedRekeyException from error
                continue
            if found is None:
                continue
            if count > 4:
                return found
            length = int.from_bytes(found, "big")
            if not TAG <= length <= LARGEST:
                raise SSHException(f"a packet of {length} bytes")
            count = 4 + length + TAG

    def _count(self, size: int) -> None:
        """Ask for new keys after so much (RFC 4253, 9), and insist on them."""
        self._bytes += size
        self._packets += 1
        if self._bytes >= self.REKEY_BYTES or self._packets >= self.REKEY_PACKETS:
            if self.need_rekey():
                raise SSHException("the server does not agree on new keys")
            self._bytes = self._packets = 0
            cast("Any", self)._trigger_rekey()


def receive_packets(packetizer: Packetizer, buffered: BufferedSocket) -> None:
    """Let a session's packetizer, made for `buffered`, receive as `Packets` does."""
    packetizer.__class__ = Packets
    assert isinstance(packetizer, Packets)
    packetizer.buffered = buffered
