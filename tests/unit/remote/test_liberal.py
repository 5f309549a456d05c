"""Servers that leave out or add what can be done without: nothing of it is an error."""

from __future__ import annotations

import struct

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, Twist
from tests.unit.remote.one_connection import FILE, FILES
from tests.unit.remote.one_pool import fails, remote
from vfs.base.errors import NoSuchPath, ServerFailure
from vfs.remote.sftp.wire import PacketType

U32 = struct.Struct(">I")


def bare_names(asked: Asked, names: list[bytes]) -> bytes:
    """A NAME without attributes."""
    body = b"".join(fake.text(name) + fake.text(name) for name in names)
    return fake.packet(PacketType.NAME, asked.id, U32.pack(len(names)) + body)


def names_of(honest: bytes) -> list[bytes]:
    return [name for name in (b"f", b"g") if fake.text(name) in honest]


LISTINGS: dict[str, Twist] = {
    "without attributes": lambda asked, honest: bare_names(asked, names_of(honest)),
    "with attributes that tell nothing": lambda asked, honest: fake.names(
        asked.id, [(name, b"\0\0\0\0") for name in names_of(honest)]
    ),
    "with modes alone": lambda asked, honest: fake.names(
        asked.id, [(name, struct.pack(">II", 4, 0o100644)) for name in names_of(honest)]
    ),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_what_a_listing_leaves_out_is_asked_for(listing: str) -> None:
    async def main(threads: Threads) -> dict[bytes, int]:
        server, pool = await remote(threads)
        server.files = dict(FILES)
        server.twist = lambda asked, honest: (
            LISTINGS[listing](asked, honest)
            if asked.kind == PacketType.READDIR and honest[4] == PacketType.NAME
            else honest
        )
        entries = await pool.scandir(b"/a")
        assert all(entry.attributes.mode & 0o170000 == 0o100000 for entry in entries)
        await pool.aclose()
        assert len(server.sessions) == 1
        return {entry.name: entry.attributes.size for entry in entries}

    assert run_engine(main) == {b"f": 100_000, b"g": 1}


def test_a_link_is_read_though_the_reply_lacks_its_attributes() -> None:
    async def main(threads: Threads) -> bytes:
        server, pool = await remote(threads)
        server.twist = lambda asked, honest: (
            bare_names(asked, [b"../target"]) if asked.kind == PacketType.READLINK else honest
        )
        text = await pool.readlink(FILE)
        await pool.aclose()
        return text

    assert run_engine(main) == b"../target"


def test_an_empty_directory_may_be_told_by_a_reply_without_names() -> None:
    async def main(threads: Threads) -> int:
        server, pool = await remote(threads)
        told: set[bytes] = set()

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind != PacketType.READDIR or asked.text in told:
                return honest if asked.kind != PacketType.READDIR else fake.status(asked.id, 1)
            told.add(asked.text)
            return fake.names(asked.id, [])

        server.twist = twist
        assert await pool.scandir(b"/a") == []
        await pool.aclose()
        return len(server.sessions)

    assert run_engine(main) == 1


@pytest.mark.parametrize("failures", [1, 3, 4])
def test_a_listing_that_fails_over_a_name_that_went_away_is_begun_again(failures: int) -> None:
    """As asyncssh's server does it, of a directory in which files come and go."""

    async def main(threads: Threads) -> int | None:
        server, pool = await remote(threads)
        server.files = dict(FILES)
        failed: set[bytes] = set()

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind == PacketType.READDIR and (asked.text in failed or len(failed) < failures):
                failed.add(asked.text)
                return fake.status(asked.id, 2)
            return honest

        server.twist = twist
        try:
            return len(await pool.scandir(b"/a"))
        except NoSuchPath:
            return None
        finally:
            await pool.aclose()

    assert run_engine(main) == (2 if failures < 4 else None)


def test_a_listing_of_replies_without_names_ends_and_hurts_nobody_else() -> None:
    async def main(threads: Threads) -> int:
        server, pool = await remote(threads)
        server.twist = lambda asked, honest: (
            fake.names(asked.id, []) if asked.kind == PacketType.READDIR else honest
        )
        await fails(pool.scandir(b"/a"), ServerFailure)
        await pool.lstat(FILE)
        await pool.aclose()
        return len(server.sessions)

    assert run_engine(main) == 1


@pytest.mark.parametrize("limits", [False, True])
def test_a_server_without_limits_is_asked_for_whole_pages(limits: bool) -> None:
    """lsh's server gives the rest of the file, however long, where no multiple of 4096 bytes is asked for."""

    async def main(threads: Threads) -> list[int]:
        server, pool = await remote(threads, extensions=dict(fake.LIMITS) if limits else {})
        server.files = dict(FILES) | {FILE: bytes(range(250)) * 400}
        lengths: list[int] = []

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind == PacketType.READ:
                lengths.append(struct.unpack(">QI", asked.tail)[1])
            return honest

        server.twist = twist
        file = await pool.open(FILE)
        for offset, size in ((0, 4), (100, 70_001), (99_990, 10)):
            buffer = bytearray(size + 8)
            count, _ = await file.read(offset, memoryview(buffer)[:size])
            assert bytes(buffer) == server.files[FILE][offset : offset + size] + bytes(8)
            assert count == size
        await pool.aclose()
        return [length % 4096 for length in lengths]

    odd = run_engine(main)
    assert any(odd) is limits


@pytest.mark.parametrize("pieces", [None, 1, 7, 40_000])
def test_more_data_than_was_asked_for_is_cut_to_it(pieces: int | None) -> None:
    """lsh's server gives 8 bytes where 4 are asked for."""

    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        server.files = dict(FILES) | {FILE: bytes(range(250)) * 400}
        server.pieces = None if pieces is None else iter(lambda: pieces, 0)

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind != PacketType.READ or honest[4] != PacketType.DATA:
                return honest
            return fake.data(asked.id, honest[13:] + b"surplus" * 1000)

        server.twist = twist
        file = await pool.open(FILE)
        for offset, size in ((0, 4), (100, 70_000), (99_990, 10), (5, 1)):
            buffer = bytearray(size + 8)
            count, _ = await file.read(offset, memoryview(buffer)[:size])
            assert count == size
            assert bytes(buffer) == server.files[FILE][offset : offset + size] + bytes(8)
        await pool.aclose()
        assert len(server.sessions) == 1

    run_engine(main)
