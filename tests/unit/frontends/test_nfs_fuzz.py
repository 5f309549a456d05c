"""XDR, records and calls under bytes of every kind: an answer or `Malformed`, never anything else, in bounded memory."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.lab.nfs_client import call, marked
from tests.unit.frontends.test_nfs_procedures import Served
from vfs.frontends.nfs import protocol as p
from vfs.frontends.nfs import rpc
from vfs.frontends.nfs.rpc import MOST_RECORD, RecordStream
from vfs.frontends.nfs.xdr import Malformed, Packer, Unpacker

pytestmark = pytest.mark.one_python

SECONDS = float(os.environ.get("ARTISYNC_FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("ARTISYNC_FUZZ_SEED", "6"))

VALUE = st.one_of(
    st.tuples(st.just("u32"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("u64"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("opaque"), st.binary(max_size=70)),
)


@given(st.lists(VALUE))
def test_what_is_packed_is_unpacked(values: list[tuple[str, int | bytes]]) -> None:
    packer = Packer()
    for kind, value in values:
        getattr(packer, kind)(value)
    assert len(packer) % 4 == 0
    unpacker = Unpacker(bytes(packer.data))
    for kind, value in values:
        assert (unpacker.opaque(70) if kind == "opaque" else getattr(unpacker, kind)()) == value
    assert unpacker.left == 0


@given(st.lists(VALUE, min_size=1), st.data())
def test_what_is_cut_short_is_malformed(values: list[tuple[str, int | bytes]], data: st.DataObject) -> None:
    packer = Packer()
    for kind, value in values:
        getattr(packer, kind)(value)
    unpacker = Unpacker(bytes(packer.data[: data.draw(st.integers(0, len(packer) - 1))]))
    with pytest.raises(Malformed):
        for kind, _ in values:
            unpacker.opaque(70) if kind == "opaque" else getattr(unpacker, kind)()


def test_a_string_that_is_too_long_is_malformed_whatever_is_there() -> None:
    with pytest.raises(Malformed):
        Unpacker(bytes(Packer().opaque(b"x" * 65).data)).opaque(64)
    with pytest.raises(Malformed):
        Unpacker(b"\xff\xff\xff\xff" + b"x" * 100).opaque(2**32)


@given(
    st.lists(st.binary(min_size=1, max_size=100), max_size=5),
    st.integers(2, 50),
    st.lists(st.integers(1, 60), min_size=1),
)
def test_records_come_whole_however_they_are_cut(
    records: list[bytes], fragment: int, pieces: list[int]
) -> None:
    stream = b"".join(marked(record, fragment) for record in records)
    reader, got, turn = RecordStream(), [], 0
    while stream:
        size = pieces[turn % len(pieces)]
        got += reader.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert got == records
    assert not reader.partial


@pytest.mark.parametrize("mark", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 31 | MOST_RECORD + 1])
def test_a_record_of_gigabytes_is_refused_by_its_length(mark: int) -> None:
    with pytest.raises(Malformed):
        RecordStream().feed(struct.pack(">I", mark))


def test_a_record_in_fragments_may_not_be_longer_either() -> None:
    piece = struct.pack(">I", MOST_RECORD // 8) + bytes(MOST_RECORD // 8)
    with pytest.raises(Malformed):
        RecordStream().feed(piece * 9)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_record_is_a_call_or_denied_or_malformed(record: bytes) -> None:
    try:
        rpc.parse(record)
    except (rpc.Denied, Malformed):
        pass


def test_a_credential_that_is_none_is_told() -> None:
    head = bytes(Packer().u32(7, 0, 2, p.NFS_PROGRAM, 3, 0).data)
    for credential in (
        Packer().u32(1).opaque(b"xx").u32(0, 0),
        Packer().u32(1, 401).raw(bytes(404)).u32(0, 0),
        Packer().u32(1),
    ):
        with pytest.raises(rpc.Denied) as caught:
            rpc.parse(head + bytes(credential.data))
        assert bytes(caught.value.reply.data) == struct.pack(">5I", 7, 1, 1, 1, 1)


def test_calls_of_every_kind_are_answered_in_bounded_memory(caplog: pytest.LogCaptureFixture) -> None:
    """Calls that are right but for some bytes: each gets an answer or ends its connection, and the server goes on."""
    chance = random.Random(SEED)

    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x" * 1000)
        served = Served(stack)
        await served.client.list(served.root, plus=True)
        handle, _ = await served.client.lookup(served.root, b"f")
        handles = [served.root, handle, b"", bytes(24), bytes(64)]
        end = time.monotonic() + SECONDS
        answers = malformed = 0
        tracemalloc.start()
        while time.monotonic() < end:
            program = chance.choice([p.NFS_PROGRAM, p.NFS_PROGRAM, p.MOUNT_PROGRAM, chance.getrandbits(32)])
            arguments = Packer().opaque(chance.choice(handles))
            for _ in range(chance.randrange(6)):
                arguments.u32(chance.choice([0, 1, 4, 4096, 2**31, 2**32 - 1, chance.getrandbits(32)]))
            record = bytearray(call(1, program, chance.randrange(23), bytes(arguments.data)))
            for _ in range(chance.choice([0, 0, 1, 3])):
                record[chance.randrange(len(record))] = chance.getrandbits(8)
            if chance.random() < 0.2:
                del record[chance.randrange(len(record)) :]
            try:
                reply = await served.send(bytes(record))
            except Malformed:
                malformed += 1
                continue
            assert reply[:4] == record[:4]
            denied = reply[8:12] == b"\0\0\0\1"
            assert denied or struct.unpack_from(">I", reply, 20)[0] != rpc.Accept.SYSTEM_ERR
            answers += 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert answers > malformed > 0
        assert peak < 16 << 20
        assert await served.client.whole(handle) == b"x" * 1000
        served.files.close()

    play(story)
    assert "Traceback" not in caplog.text
