"""The pool over a server that lies about one file, or hangs up at one request: nobody else pays for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked
from tests.unit.remote.one_pool import FILE, TIMEOUT, fails, online
from tests.unit.remote.one_pool import remote as connected
from vfs.base.errors import ArtisyncError, LinkError, RemoteError
from vfs.remote.sftp import pool as pools
from vfs.remote.sftp.wire import Code, PacketType

LIES: dict[str, Callable[[Asked, bytes], bytes]] = {
    "garbage": lambda asked, honest: b"?" * 100,
    "a failure": lambda asked, honest: fake.status(asked.id, Code.FAILURE),
    "an odd code": lambda asked, honest: fake.status(asked.id, 4_000_000_000),
    "an end of file": lambda asked, honest: fake.status(asked.id, Code.EOF),
    "a success": lambda asked, honest: fake.status(asked.id, Code.OK),
    "a wrong id": lambda asked, honest: honest[:5] + b"\xff" * 4 + honest[9:],
    "an empty answer": lambda asked, honest: fake.packet(honest[4], asked.id),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    "kind",
    [
        PacketType.OPEN,
        PacketType.READ,
        PacketType.FSTAT,
        PacketType.LSTAT,
        PacketType.OPENDIR,
        PacketType.READDIR,
    ],
)
def test_a_lie_about_one_file_is_an_error_of_that_file_alone(kind: PacketType, lie: str) -> None:
    async def main(threads: Threads) -> None:
        server, _, pool = await online(threads)
        server.files[b"/b/g"] = b"good"

        def about_it(asked: Asked) -> bool:
            path = server.sessions[-1].handles.get(asked.text, asked.text)
            return asked.kind == kind and path in (FILE, b"/a")

        server.twist = lambda asked, honest: LIES[lie](asked, honest) if about_it(asked) else honest

        async def ask() -> object:
            await pool.lstat(FILE)
            await pool.scandir(b"/a")
            file = await pool.open(FILE)
            try:
                return await file.read(0, memoryview(bytearray(100)))
            finally:
                file.close()

        try:
            async with asyncio.timeout(TIMEOUT * 2):
                await ask()  # an end of file may be an answer
        except (RemoteError, LinkError):
            pass
        assert (await pool.lstat(b"/b/g")).size == 4
        await asyncio.sleep(1)
        assert pool.in_flight == 0
        await pool.aclose()

    run_engine(main)


def test_a_server_that_hangs_up_at_one_request_does_not_keep_it_waiting_for_ever() -> None:
    async def main(threads: Threads) -> tuple[float, int]:
        server, dialer, pool = await online(threads)

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind != PacketType.LSTAT or asked.text != FILE:
                return honest
            server.sessions[-1].end()
            return b""

        server.twist = twist
        return await fails(pool.lstat(FILE), LinkError), len(dialer.at)

    taken, tries = run_engine(main)
    assert taken <= 300
    assert tries <= pools.LOST_TOO_OFTEN + 1


@pytest.mark.parametrize("poison", ["hanging up", "garbage", "an answer of the wrong kind"])
def test_one_request_that_ends_connections_is_no_trouble_of_those_beside_it(poison: str) -> None:
    async def main(threads: Threads) -> None:
        server, remote = await connected(threads, latency=0.01)
        names = [b"/b/%d" % number for number in range(40)]
        server.files.update({name: name for name in names})

        def twist(asked: Asked, honest: bytes) -> bytes:
            if asked.kind != PacketType.LSTAT or asked.text != FILE:
                return honest
            if poison == "hanging up":
                server.sessions[-1].end()
                return b""
            return b"?" * 100 if poison == "garbage" else fake.data(asked.id, b"?")

        server.twist = twist
        asked = [asyncio.ensure_future(remote.lstat(path)) for path in (FILE, *names)]
        for task, name in zip(asked[1:], names, strict=True):
            assert (await task).size == len(name)
        await fails(asked[0], ArtisyncError)
        assert (await remote.lstat(names[0])).size == len(names[0])
        await remote.aclose()

    run_engine(main)
