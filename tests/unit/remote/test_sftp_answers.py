"""Answers that the protocol allows and a file system does not, or that only some servers give."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, Twist
from tests.unit.remote.one_connection import FILE, connected, entry, lstat, read, scandir, statvfs
from vfs.base.errors import AccessDenied, ListingTooLong, ServerFailure
from vfs.remote import api
from vfs.remote.sftp import listing, wire
from vfs.remote.sftp.connection import Connection
from vfs.remote.sftp.wire import Code, PacketType

LIMITS: dict[str, tuple[int, int]] = {
    "none told": (0, wire.DEFAULT_READ),
    "one byte": (1, 4096),
    "too much": (2**64 - 1, wire.MAX_READ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_whatever_limits_a_server_tells_reads_are_of_a_sensible_length(name: str) -> None:
    told, most = LIMITS[name]

    def twist(asked: Asked, honest: bytes) -> bytes:
        if asked.kind != PacketType.EXTENDED:
            return honest
        return fake.packet(PacketType.EXTENDED_REPLY, asked.id, struct.pack(">4Q", told, told, told, told))

    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(threads, twist)
        server.files[FILE] = b"x" * (1 << 20)
        count, _ = await connection.read(await connection.open(FILE), 0, memoryview(bytearray(1 << 20)), FILE)
        assert count == 1 << 20
        sizes = {int.from_bytes(asked.tail[8:]) for asked in server.asked(PacketType.READ)}
        assert max(sizes) <= most
        connection.close()

    run_engine(main)


NO_LIMITS: dict[str, Twist] = {
    "not known": lambda asked, honest: fake.status(asked.id, Code.OP_UNSUPPORTED),
    "failed": lambda asked, honest: fake.status(asked.id, Code.FAILURE),
    "at an end": lambda asked, honest: fake.status(asked.id, Code.EOF),
}


@pytest.mark.parametrize("name", NO_LIMITS)
def test_a_server_that_does_not_tell_its_limits_is_used_all_the_same(name: str) -> None:
    def twist(asked: Asked, honest: bytes) -> bytes:
        return NO_LIMITS[name](asked, honest) if asked.kind == PacketType.EXTENDED else honest

    async def main(threads: Threads) -> None:
        _, _, connection, _ = await connected(threads, twist)
        assert (await connection.lstat(FILE)).size == 100_000
        connection.close()

    run_engine(main)


ENDS: dict[PacketType, Callable[[Connection], Awaitable[object]]] = {
    PacketType.LSTAT: lstat,
    PacketType.OPEN: read,
    PacketType.FSTAT: read,
    PacketType.OPENDIR: scandir,
    PacketType.EXTENDED: statvfs,
}


@pytest.mark.parametrize("kind", ENDS)
def test_an_end_of_file_where_there_can_be_none_is_a_failure(kind: PacketType) -> None:
    def twist(asked: Asked, honest: bytes) -> bytes:
        odd = asked.kind == kind and asked.text not in (fake.CLOCK, b"limits@openssh.com")
        return fake.status(asked.id, Code.EOF) if odd else honest

    async def main(threads: Threads) -> None:
        _, _, connection, _ = await connected(threads, twist)
        with pytest.raises(ServerFailure):
            await ENDS[kind](connection)
        connection.close()

    run_engine(main)


def test_a_real_path_never_goes_up() -> None:
    async def main(threads: Threads) -> None:
        _, _, connection, _ = await connected(
            threads,
            lambda asked, honest: (
                fake.names(asked.id, [entry(b"/a/./b/../../../etc/passwd/")])
                if asked.kind == PacketType.REALPATH
                else honest
            ),
        )
        assert await connection.realpath(FILE) == b"/etc/passwd"
        connection.close()

    run_engine(main)


def test_a_status_is_an_error_of_that_request_alone() -> None:
    async def main(threads: Threads) -> None:
        _, _, connection, _ = await connected(
            threads,
            lambda asked, honest: (
                fake.status(asked.id, Code.PERMISSION_DENIED, b"no\x1b[2J\nway")
                if asked.kind == PacketType.READ
                else honest
            ),
        )
        with pytest.raises(AccessDenied, match=r"/a/f: no\\x1b\[2J\\nway"):  # nothing that moves a cursor
            await read(connection)
        assert connection.in_flight == 0
        assert (await connection.lstat(FILE)).size == 100_000
        connection.close()

    run_engine(main)


def test_names_that_no_local_file_can_have_are_left_out() -> None:
    hostile = [b"", b".", b"..", b"../../etc/passwd", b"a/b", b"/", b"nul\0", b"x" * 256]
    good = [b"...", b"\xff\n", b" ", b"x" * 255, b"-rf", b"\\"]

    def twist(asked: Asked, honest: bytes) -> bytes:
        if asked.kind != PacketType.READDIR or len(asked_for) > 1:
            return honest if asked.kind != PacketType.READDIR else fake.status(asked.id, Code.EOF)
        asked_for.append(asked)
        return fake.names(asked.id, [entry(name) for name in [*hostile, *good]])

    asked_for: list[Asked] = []

    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(threads, twist)
        assert {found.name for found in await listing.scandir(connection, b"/a")} == set(good)
        await connection.lstat(FILE)
        assert server.handles == 0
        connection.close()

    run_engine(main)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", [b"..", b"good"])
def test_an_endless_directory_is_given_up_sooner_while_nobody_waits(
    name: bytes, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 10_000)
    monkeypatch.setattr(api, "MOST_AHEAD", 5_000)

    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(
            threads,
            lambda asked, honest: (
                fake.names(asked.id, [entry(name)] * 100) if asked.kind == PacketType.READDIR else honest
            ),
        )
        with pytest.raises(ListingTooLong, match="10000" if wanted else "5000"):
            await listing.scandir(connection, b"/a", lambda: wanted)
        await connection.lstat(FILE)
        assert server.handles == 0
        connection.close()

    run_engine(main)


def test_a_listing_that_fails_half_way_is_none_and_its_handle_is_closed() -> None:
    async def main(threads: Threads) -> None:
        server, _, connection, _ = await connected(
            threads,
            lambda asked, honest: (
                fake.status(asked.id, Code.FAILURE)
                if asked.kind == PacketType.READDIR and asked.id % 4 == 0
                else honest
            ),
        )
        server.files.update({b"/many/%d" % number: b"" for number in range(5000)})
        with pytest.raises(ServerFailure):
            await listing.scandir(connection, b"/many")
        await connection.lstat(FILE)
        assert server.handles == 0
        connection.close()

    run_engine(main)
