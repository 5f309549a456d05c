"""Streams of SFTP replies, right ones and broken ones, and a decoder that is fed with them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.lab import fake_server as fake
from vfs.base.errors import ProtocolViolation
from vfs.remote.api import Attributes
from vfs.remote.sftp.decoder import Decoder, Reply
from vfs.remote.sftp.wire import MAX_SIZE, Code, PacketType, Status

GUARD = 64
"""Bytes around each destination that nobody may touch."""
ABSURD = (0, 1, 4, 5, 8, 255, 2**15, 2**18, 2**18 + 1, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers that lengths and counts are set to."""

ANSWERS = [
    PacketType.DATA,
    PacketType.ATTRS,
    PacketType.NAME,
    PacketType.HANDLE,
    PacketType.STATUS,
    PacketType.EXTENDED_REPLY,
]
"""What a server answers requests with."""
KINDS = {
    PacketType.DATA: int,
    PacketType.ATTRS: Attributes,
    PacketType.NAME: list,
    PacketType.HANDLE: bytes,
    PacketType.STATUS: Status,
    PacketType.EXTENDED_REPLY: bytes,
    PacketType.VERSION: dict,
}
"""What the answers are decoded to."""


@dataclass
class Expectation:
    """A request under way: what is due for it, and for a READ how much."""

    id: int
    kind: PacketType
    size: int = 0


class Fed:
    """A decoder with `expectations`, and what came of the bytes that it was fed."""

    def __init__(self, expectations: Iterable[Expectation]) -> None:
        self.decoder: Decoder[Expectation] = Decoder()
        self.replies: list[Reply[Expectation]] = []
        self.destinations: dict[int, bytearray] = {}
        for one in expectations:
            view = None
            if one.kind == PacketType.DATA:
                memory = self.destinations[one.id] = bytearray(b"\xaa" * (one.size + 2 * GUARD))
                view = memoryview(memory)[GUARD:-GUARD]
            self.decoder.expect(one.id, one.kind, one, view)

    def feed(self, stream: bytes, piece: Callable[[], int]) -> bool:
        """Whether all of it was taken; False when the decoder gave up. Raises what should not be raised."""
        rest = memoryview(stream)
        while rest:
            buffers = self.decoder.get_buffers()
            assert len(buffers[0]) > 0
            count = fake.scatter(rest[: piece()], buffers)
            assert count > 0
            rest = rest[count:]
            try:
                self.replies += self.decoder.received(count)
            except ProtocolViolation:
                return False
        return True

    def data(self, request_id: int) -> bytes:
        """What is in the destination of a READ."""
        return bytes(self.destinations[request_id][GUARD:-GUARD])

    def check(self) -> None:
        """Nothing was written beside the destinations, and no answer came twice."""
        for memory in self.destinations.values():
            assert memory[:GUARD] == memory[-GUARD:] == b"\xaa" * GUARD
        ids = [(reply.request_id, reply.token) for reply in self.replies]
        assert len({number for number, _ in ids}) == len(ids)
        for reply in self.replies:
            assert isinstance(reply.value, (KINDS[reply.token.kind], Status))
            assert not isinstance(reply.value, int) or 0 < reply.value <= reply.token.size
            for size in _sizes(reply.value):
                assert 0 <= size <= MAX_SIZE


def _sizes(value: object) -> list[int]:
    entries = value if isinstance(value, list) else []
    return [
        one.size for one in [value, *(entry.attributes for entry in entries)] if isinstance(one, Attributes)
    ]


def made(chance: random.Random, count: int) -> list[tuple[Expectation, bytes]]:
    """Some requests and right answers to them, the greeting first."""
    pairs = [(Expectation(-1, PacketType.VERSION), fake.version(3, {b"limits@openssh.com": b"1"}))]
    for number in range(1, count + 1):
        kind = chance.choice(ANSWERS)
        size = chance.choice([1, 20, 1000, 40_000]) if kind == PacketType.DATA else 0
        pairs.append((Expectation(number, kind, size), answer(chance, number, kind, size)))
    return pairs


def answer(chance: random.Random, number: int, kind: PacketType, size: int) -> bytes:
    """A right answer to a request."""
    attributes = fake.attributes(0o100644, chance.getrandbits(62), chance.getrandbits(32))
    if kind == PacketType.STATUS or chance.random() < 0.1:
        return fake.status(number, Code.OK if kind == PacketType.STATUS else Code.EOF, b"End of file")
    if kind == PacketType.DATA:
        return fake.data(number, chance.randbytes(chance.randint(1, size)))
    if kind == PacketType.ATTRS:
        return fake.packet(kind, number, attributes)
    if kind == PacketType.NAME:
        names = [chance.randbytes(chance.randint(0, 300)) for _ in range(chance.randint(0, 20))]
        return fake.names(number, [(name, attributes) for name in names])
    if kind == PacketType.HANDLE:
        return fake.packet(kind, number, fake.text(chance.randbytes(chance.randint(0, 256))))
    return fake.packet(kind, number, chance.randbytes(chance.randint(0, 100)))


def lie(chance: random.Random, one: Expectation) -> bytes:
    """An answer in a right packet that does not fit what was asked, or that cannot be."""
    number, odd = one.id & 0xFFFFFFFF, chance.choice(ABSURD)
    attributes = fake.attributes(0o100644, chance.choice([2**62, 2**63, 2**64 - 1]))
    return chance.choice(
        [
            fake.data(number, bytes(max(0, one.size + chance.choice([-1, 0, 1, 100])))),
            fake.packet(PacketType.ATTRS, number, attributes),
            fake.packet(PacketType.ATTRS, number, struct.pack(">III", odd, odd, odd)),
            fake.packet(PacketType.NAME, number, struct.pack(">II", odd, odd) + bytes(100)),
            fake.names(number, [(b"name", attributes)]),
            fake.packet(PacketType.HANDLE, number, fake.text(bytes(257))),
            fake.status(number, odd),
            fake.version(odd),
            struct.pack(">IBI", odd, one.kind, number) + bytes(300_000),
        ]
    )


def broken(chance: random.Random, pairs: list[tuple[Expectation, bytes]]) -> bytes:
    """The stream of the answers with one to four things changed."""
    answers = [answer for _, answer in pairs]
    if chance.random() < 0.5:
        at = chance.randrange(len(pairs))
        answers[at] = lie(chance, pairs[at][0])
        return b"".join(answers)
    changed = bytearray(b"".join(answers))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice([1, 1, 2, 4, 8, 100, 5000])
        how = chance.randrange(6)
        if how == 0:
            changed[at : at + length] = chance.randbytes(length)
        elif how == 1:
            del changed[at : at + length]
        elif how == 2:
            changed[at:at] = chance.randbytes(length)
        elif how == 3:
            changed[at:at] = changed[at : at + length]
        elif how == 4:
            changed[at : at + 4] = struct.pack(">I", chance.choice(ABSURD))
        else:
            changed[at : at + 1] = bytes([chance.choice([*PacketType, 0, 255])])
    return bytes(changed)
