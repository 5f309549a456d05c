"""Requests that a server refuses, and what takes their place."""

from __future__ import annotations

import stat

import pytest

from tests.lab import fake_server as fake
from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import Asked, FakeServer
from tests.unit.remote.one_pool import FILE, fails, remote
from vfs.base.errors import AccessDenied, EndlessSymlink, NoSuchPath
from vfs.remote.sftp.wire import Code, PacketType

LINK, LOOP = b"/a/link", b"/a/loop"
TEXTS = {LINK: b"f", b"/a/second": b"link", LOOP: b"loop"}


def serve_links(server: FakeServer, refused: PacketType | None, code: Code = Code.PERMISSION_DENIED) -> None:
    """Let the server have TEXTS as links, and refuse a kind of request."""

    def twist(asked: Asked, honest: bytes) -> bytes:
        if asked.kind == refused:
            return fake.status(asked.id, code)
        text = TEXTS.get(asked.text)
        if asked.kind == PacketType.READLINK:
            if text is None:
                return fake.status(asked.id, Code.FAILURE)
            return fake.names(asked.id, [(text, b"\0\0\0\0")])
        if text is None:
            return honest
        if asked.kind == PacketType.LSTAT:
            return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(stat.S_IFLNK | 0o777, len(text)))
        if asked.kind == PacketType.STAT and asked.text == LOOP:
            return fake.status(asked.id, Code.FAILURE)
        if asked.kind == PacketType.STAT:
            size = len(server.files[FILE])
            return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(stat.S_IFREG | 0o644, size))
        return honest

    server.twist = twist


@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.OP_UNSUPPORTED])
@pytest.mark.parametrize("refused", [None, PacketType.LSTAT, PacketType.STAT])
def test_names_and_links_are_told_without_lstat_and_without_stat(
    refused: PacketType | None, code: Code
) -> None:
    async def main(threads: Threads) -> int:
        server, pool = await remote(threads)
        serve_links(server, refused, code)
        size = len(server.files[FILE])
        for _ in range(3):
            assert (await pool.lstat(LINK)).is_symlink
            assert (await pool.lstat(FILE)).size == size
            assert (await pool.lstat(b"/a")).is_dir
            assert (await pool.stat(FILE)).size == size
            assert (await pool.stat(b"/a/second")).size == size
            await fails(pool.lstat(b"/a/absent"), NoSuchPath)
            await fails(pool.stat(b"/a/absent"), NoSuchPath)
            await fails(pool.stat(LOOP), EndlessSymlink)
        await pool.aclose()
        return len(server.asked(refused)) if refused is not None else 0

    assert run_engine(main) <= 2


def following(asked: Asked, honest: bytes) -> bytes:
    """ProFTPD's LSTAT tells what a link leads to."""
    if asked.kind == PacketType.LSTAT and asked.text == fake.CLOCK:
        return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(stat.S_IFDIR | 0o555, 0, fake.NOW))
    if asked.kind in (PacketType.LSTAT, PacketType.STAT) and asked.text == LINK:
        return fake.packet(PacketType.ATTRS, asked.id, fake.attributes(stat.S_IFREG | 0o644, 7))
    if asked.kind == PacketType.READLINK and asked.text == LINK:
        return fake.names(asked.id, [(b"f", b"\0\0\0\0")])
    return honest


def test_a_link_is_told_where_lstat_follows_it() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads, twist=following)
        assert (await pool.lstat(LINK)).is_symlink
        assert (await pool.stat(LINK)).size == 7
        assert (await pool.lstat(FILE)).size == len(server.files[FILE])
        await pool.aclose()

    run_engine(main)


def test_without_realpath_a_path_is_as_it_was_given() -> None:
    async def main(threads: Threads) -> bytes:
        server, pool = await remote(threads)
        serve_links(server, PacketType.REALPATH)
        await fails(pool.realpath(b"/a/absent"), AccessDenied)
        found = await pool.realpath(FILE)
        await pool.aclose()
        return found

    assert run_engine(main) == FILE


def test_what_is_denied_of_one_path_is_asked_of_the_next() -> None:
    async def main(threads: Threads) -> None:
        server, pool = await remote(threads)
        server.files[b"/secret/f"] = b"?"
        server.twist = lambda asked, honest: (
            fake.status(asked.id, Code.PERMISSION_DENIED) if asked.text.startswith(b"/secret") else honest
        )
        await fails(pool.lstat(b"/secret/f"), AccessDenied)
        await fails(pool.stat(b"/secret/f"), AccessDenied)
        before = len(server.asked(PacketType.LSTAT))
        await pool.lstat(FILE)
        assert len(server.asked(PacketType.LSTAT)) == before + 1
        await pool.aclose()

    run_engine(main)


def test_without_statvfs_the_room_is_not_told() -> None:
    async def main(threads: Threads) -> object:
        extensions = {b"statvfs@openssh.com": b"2"}
        server, pool = await remote(threads, extensions=extensions)
        server.twist = lambda asked, honest: (
            fake.status(asked.id, Code.PERMISSION_DENIED) if asked.kind == PacketType.EXTENDED else honest
        )
        found = await pool.statvfs(b"/a")
        await pool.aclose()
        return found

    assert run_engine(main) is None
