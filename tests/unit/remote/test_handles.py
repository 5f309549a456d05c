"""Few handles on the server, handles given out twice, and servers that refuse FSTAT."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, FakeServer
from tests.unit.remote.one_pool import FILE, fails, now, remote
from vfs.base.errors import ServerFailure, Unreachable
from vfs.remote.api import RemoteFile
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.sftp.wire import Code, PacketType

MANY = 60
FEW = 8


def files(server: FakeServer) -> list[bytes]:
    """Small files, each with bytes of its own."""
    paths = [b"/d/%03d" % number for number in range(MANY)]
    for path in paths:
        server.files[path] = path * 100
    return paths


async def content(pool: SftpRemote, path: bytes) -> tuple[RemoteFile, bytes]:
    """The open file and its beginning."""
    file = await pool.open(path)
    return file, await read(file)


async def read(file: RemoteFile) -> bytes:
    buffer = bytearray(1000)
    count, _ = await file.read(0, memoryview(buffer))
    return bytes(buffer[:count])


def stingy(server: FakeServer, most: int) -> list[int]:
    """Let the server refuse a handle beyond so many, and give the largest count that it saw."""
    seen = [0]

    def twist(asked: Asked, honest: bytes) -> bytes:
        if asked.kind in (PacketType.OPEN, PacketType.OPENDIR) and honest[4] == PacketType.HANDLE:
            seen[0] = max(seen[0], server.handles)
            if server.handles > most:
                del server.sessions[-1].handles[honest[13:]]
                return fake.status(asked.id, Code.FAILURE, b"too many open files")
        return honest

    server.twist = twist
    return seen


@pytest.mark.parametrize("together", [True, False], ids=["at once", "in turn"])
def test_more_files_are_held_open_than_the_server_has_handles_for(together: bool) -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads, latency=0.001)
        paths = files(server)
        stingy(server, FEW)
        if together:
            found = await asyncio.gather(*(content(pool, path) for path in paths))
        else:
            found = [await content(pool, path) for path in paths]
        assert [data for _, data in found] == [path * 100 for path in paths][:MANY]
        assert len(await pool.scandir(b"/d")) == MANY
        assert [await read(file) for file, _ in found] == [path * 100 for path in paths]
        await pool.aclose()

    run_engine(main)


def test_the_servers_own_limit_is_kept_to() -> None:
    async def main(threads: Threads) -> int:
        server, pool = await remote(threads, latency=0.001)  # which says 100
        paths = [b"/d/%03d" % number for number in range(150)]
        server.files.update({path: path for path in paths})
        seen = stingy(server, 1000)
        await asyncio.gather(*(content(pool, path) for path in paths))
        await pool.scandir(b"/d")
        await pool.aclose()
        return seen[0]

    assert run_engine(main) == 100


def test_a_file_that_cannot_be_opened_is_an_error_soon_and_no_limit_is_learnt_from_it() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads, latency=0.001)
        paths = files(server)
        held = [await content(pool, path) for path in paths[:20]]
        server.twist = lambda asked, honest: (
            fake.status(asked.id, Code.FAILURE)
            if asked.kind == PacketType.OPEN and asked.text == FILE
            else honest
        )
        assert await fails(pool.open(FILE), ServerFailure) < 3
        held += [await content(pool, path) for path in paths[20:]]
        assert server.handles > MANY - 10
        await pool.aclose()

    run_engine(main)


def test_a_handle_that_is_open_already_is_given_to_nobody() -> None:
    """The bytes of one file were given out as another's."""

    async def main(threads: Threads) -> int:
        server, pool = await remote(threads, latency=0.001)
        paths = files(server)[:3]
        first, data = await content(pool, paths[0])
        twins = 0

        def twist(asked: Asked, honest: bytes) -> bytes:
            nonlocal twins
            if asked.kind == PacketType.OPEN and asked.text == paths[1] and not twins:
                twins += 1
                handles = server.sessions[-1].handles
                twin = next(iter(handles))
                handles[twin] = handles.pop(honest[13:])
                return fake.packet(PacketType.HANDLE, asked.id, fake.text(twin))
            return honest

        server.twist = twist
        _, second = await content(pool, paths[1])
        assert second == paths[1] * 100
        assert await read(first) == data == paths[0] * 100
        await pool.aclose()
        return twins

    assert run_engine(main) == 1


class ErlangHandles(dict[bytes, Any]):
    """The handles of Erlang's `ssh_sftpd`: with three open, the third is the second; CLOSE and READ mean the latest of a name."""

    def __init__(self) -> None:
        self.table: list[tuple[bytes, Any]] = []

    def __setitem__(self, _: bytes, held: Any) -> None:
        number = 0
        for text, _ in self.table:
            number += int(text) <= number
        self.table.insert(0, (b"%d" % number, held))

    def get(self, text: bytes, default: Any = None) -> Any:
        return next((held for name, held in self.table if name == text), default)

    def pop(self, text: bytes, default: Any = None) -> Any:
        at = next((at for at, (name, _) in enumerate(self.table) if name == text), None)
        return default if at is None else self.table.pop(at)[1]


@pytest.mark.parametrize("first", ["files", "listings"])
def test_each_file_and_each_listing_is_its_own_on_a_server_that_gives_out_handles_as_erlangs_does(
    first: str,
) -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads, latency=0.01)
        paths = files(server)
        server.files.update({b"/e%d/%d" % (number, number): b"" for number in range(MANY)})

        def twist(asked: Asked, honest: bytes) -> bytes:
            if honest[4] != PacketType.HANDLE:
                return honest
            session = next(one for one in server.sessions if one.asked and one.asked[-1] is asked)
            if not isinstance(session.handles, ErlangHandles):  # its first
                handles = ErlangHandles()
                handles[b""] = session.handles.popitem()[1]
                session.handles = handles
            return fake.packet(PacketType.HANDLE, asked.id, fake.text(session.handles.table[0][0]))

        async def look_at_files() -> None:
            found = await asyncio.gather(*(content(pool, path) for path in paths))
            assert [data for _, data in found] == [path * 100 for path in paths]
            assert [await read(file) for file, _ in found[:10]] == [path * 100 for path in paths[:10]]
            for file, _ in found:
                file.close()

        async def look_at_listings() -> None:
            listings = await asyncio.gather(*(pool.scandir(b"/e%d" % number) for number in range(MANY)))
            assert [[name for name, _ in names] for names in listings] == [[b"%d" % n] for n in range(MANY)]

        server.twist = twist
        looks = [look_at_files, look_at_listings]
        for look in looks if first == "files" else reversed(looks):
            await look()
        await asyncio.sleep(5)
        assert [one for session in server.sessions for one in getattr(session.handles, "table", [])] == []
        await pool.aclose()

    run_engine(main)


def test_a_read_under_way_on_a_handle_that_was_given_out_twice_is_asked_again() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads, latency=0.05)
        paths = files(server)[:2]
        first, _ = await content(pool, paths[0])
        twins = 0

        def twist(asked: Asked, honest: bytes) -> bytes:
            nonlocal twins
            if asked.kind == PacketType.OPEN and asked.text == paths[1] and not twins:
                twins += 1
                handles = server.sessions[0].handles
                twin = next(iter(handles))
                handles[twin] = paths[1]
                return fake.packet(PacketType.HANDLE, asked.id, fake.text(twin))
            return honest

        server.twist = twist
        opening = asyncio.ensure_future(pool.open(paths[1]))
        await asyncio.sleep(0.01)
        assert await read(first) == paths[0] * 100
        assert await read(await opening) == paths[1] * 100
        await pool.aclose()

    run_engine(main)


@pytest.mark.parametrize("kind", [PacketType.READ, PacketType.FSTAT], ids=["READ", "FSTAT"])
def test_a_handle_that_the_server_has_lost_is_opened_anew_and_no_file_is_gone(kind: PacketType) -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        left = [1]

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind == kind and left[0]:
                left[0] -= 1
                return fake.status(asked.id, Code.NO_SUCH_FILE)  # as OpenSSH says EBADF
            return honest

        file = await pool.open(FILE)
        server.twist = twist
        assert (await read(file))[:100] == bytes(range(100))
        assert left == [0]
        left[0] = 1 << 30
        with pytest.raises(Unreachable):
            await read(file)
        await pool.aclose()

    run_engine(main)


def refuse(*kinds: PacketType) -> fake.Twist:
    return lambda asked, honest: (
        fake.status(asked.id, Code.PERMISSION_DENIED)
        if asked.kind in kinds and asked.text != fake.CLOCK
        else honest
    )


def test_where_fstat_is_refused_stat_of_the_path_tells_the_version() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        server.twist = refuse(PacketType.FSTAT)
        server.files[b"/a/old"] = b"1234"
        file = await pool.open(b"/a/old")
        buffer = bytearray(100)
        count, attributes = await file.read(0, memoryview(buffer))
        assert (count, attributes.size) == (4, 4)
        asked = len(server.asked(PacketType.FSTAT))
        server.files[b"/a/old"] = b"123456"
        count, attributes = await file.read(0, memoryview(buffer))
        assert (count, attributes.size) == (6, 6)
        assert len(server.asked(PacketType.FSTAT)) == asked == 1
        await pool.aclose()

    run_engine(main)


def test_where_fstat_is_refused_bytes_of_a_file_that_was_replaced_are_not_given_with_the_new_ones_attributes() -> (
    None
):
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        server.twist = refuse(PacketType.FSTAT)
        server.files.update({b"/a/old": b"old!", b"/a/other": b"-"})
        await content(pool, b"/a/other")  # it is learnt here
        file = await pool.open(b"/a/old")  # perhaps early
        handles = server.sessions[0].handles
        handle = next(handle for handle, path in handles.items() if path == b"/a/old")
        server.files[b"/a/renamed over"] = server.files.pop(b"/a/old")
        handles[handle] = b"/a/renamed over"
        server.files[b"/a/old"] = b"newer"
        await asyncio.sleep(0.1)
        began = now()
        buffer = bytearray(100)
        count, attributes = await file.read(0, memoryview(buffer))
        assert (bytes(buffer[:count]), attributes.size) == (b"newer", 5)
        assert now() - began < 1
        await pool.aclose()

    run_engine(main)
