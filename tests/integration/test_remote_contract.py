"""One contract for every `api.Remote`: the one in memory that unit tests use, and SFTP to a real sshd."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.lab.memory_remote import MemoryRemote
from tests.lab.memory_tree import Changes, MemoryTree, RealTree
from tests.lab.sshd import Sshd
from tests.lab.virtual_time import run_virtual
from vfs.base.errors import AccessDenied, NoSuchPath, NotAFile, RemoteError, ServerFailure, Unreachable
from vfs.remote.api import Attributes, Remote, RemoteFile
from vfs.remote.sftp.sftp_remote import SftpRemote
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer

BASE = 1_700_000_000
"""The server's time in memory when a test begins, less the loop's."""
TIMEOUT = 4.0
Story = Callable[["World"], Awaitable[None]]
Play = Callable[[Story], None]


class World(Protocol):
    """A server with files, and a remote that looks at it."""

    changes: Changes
    root: bytes

    @property
    def remote(self) -> Remote: ...

    async def break_link(self) -> None:
        """Cut the link; the server can be reached again soon."""
        ...

    async def stop(self) -> None:
        """Stop the server; it does not come back in this story."""
        ...


class InMemory:
    """A tree in memory."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        tree = MemoryTree(lambda: BASE + loop.time())
        tree.mkdir(b"/r")
        self.changes: Changes = tree
        self.root = b"/r"
        self.remote = MemoryRemote(tree, latency=0.05, timeout=TIMEOUT)

    async def break_link(self) -> None:
        self.remote.go_offline()
        asyncio.get_running_loop().call_later(1.0, self.remote.go_online)

    async def stop(self) -> None:
        self.remote.go_offline()


class OverSsh:
    """A directory behind a real sshd."""

    def __init__(self, sshd: Sshd, root: Path, remote: SftpRemote) -> None:
        self.sshd = sshd
        self.changes: Changes = RealTree()
        self.root = os.fsencode(root)
        self.remote = remote
        self.stopped = False

    async def break_link(self) -> None:
        self.sshd.kill_sessions()
        async with asyncio.timeout(10):
            while self.remote.link.online:
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.sshd.stop()
        self.stopped = True


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd() as sshd:
        yield sshd


@pytest.fixture(params=["memory", "paramiko", "openssh"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Run a story in a world of its own."""
    if request.param == "memory":

        async def in_memory(story: Story) -> None:
            world = InMemory()
            await story(world)
            await world.remote.aclose()

        return lambda story: run_virtual(in_memory(story))
    sshd: Sshd = request.getfixturevalue("sshd")
    kind = OpensshDialer if request.param == "openssh" else ParamikoDialer

    async def over_ssh(story: Story) -> None:
        config = tmp_path / "ssh_config"
        config.write_text(f"Host *\n  UserKnownHostsFile {tmp_path / 'theirs'}\n")
        dialer = kind(sshd.address, tmp_path / "known_hosts", accept_new=True, ssh_config=config)
        remote = SftpRemote(dialer, TIMEOUT)
        root = tmp_path / "root"
        root.mkdir()
        world = OverSsh(sshd, root, remote)
        try:
            await remote.connect()
            await story(world)
        finally:
            await remote.aclose()
            if world.stopped:
                sshd.start()

    return lambda story: asyncio.run(over_ssh(story))


async def read(file: RemoteFile, offset: int, size: int) -> tuple[bytes, Attributes]:
    buffer = bytearray(size)
    count, attributes = await file.read(offset, memoryview(buffer))
    return bytes(buffer[:count]), attributes


async def fails(kind: type[RemoteError], question: Awaitable[Any]) -> None:
    """The question is refused with exactly that error."""
    with pytest.raises(RemoteError) as caught:
        await question
    assert type(caught.value) is kind


# --- names and attributes -------------------------------------------------------------------------------------------


def test_attributes_tell_kind_mode_size_and_whole_seconds(play: Play) -> None:
    async def story(world: World) -> None:
        root, changes, remote = world.root, world.changes, world.remote
        changes.write(root + b"/f", b"12345")
        changes.chmod(root + b"/f", 0o640)
        changes.utime(root + b"/f", 1_600_000_001)
        changes.symlink(root + b"/l", b"f")
        file = await remote.lstat(root + b"/f")
        assert (file.mode, file.size, file.mtime) == (stat.S_IFREG | 0o640, 5, 1_600_000_001)
        assert await remote.stat(root + b"/f") == file
        assert (await remote.lstat(root)).is_dir
        link = await remote.lstat(root + b"/l")
        assert link.is_symlink
        assert link.size == 1
        assert await remote.stat(root + b"/l") == file

    play(story)


def test_what_is_not_there_is_no_such_path(play: Play) -> None:
    async def story(world: World) -> None:
        root, changes, remote = world.root, world.changes, world.remote
        changes.write(root + b"/f", b"")
        changes.symlink(root + b"/dangling", b"nowhere/at/all")
        changes.symlink(root + b"/loop", b"loop")
        for path in (b"/none", b"/none/below", b"/f/below"):
            for question in (remote.lstat, remote.stat, remote.scandir, remote.open, remote.readlink):
                await fails(NoSuchPath, question(root + path))
        for path in (b"/dangling", b"/loop"):
            assert (await remote.lstat(root + path)).is_symlink
            await fails(NoSuchPath, remote.stat(root + path))
            await fails(NoSuchPath, remote.realpath(root + path))
        await fails(NoSuchPath, remote.scandir(root + b"/f"))

    play(story)


def test_links_are_told_as_they_are_and_resolved_on_the_server(play: Play) -> None:
    async def story(world: World) -> None:
        root, changes, remote = world.root, world.changes, world.remote
        changes.mkdir(root + b"/d")
        changes.write(root + b"/d/f", b"")
        changes.symlink(root + b"/a", b"d/../d/f")
        changes.symlink(root + b"/b", root + b"/a")
        changes.symlink(root + b"/missing", b"d/not-there")
        assert await remote.readlink(root + b"/a") == b"d/../d/f"
        assert await remote.readlink(root + b"/b") == root + b"/a"
        real = await remote.realpath(root)
        for path in (b"/a", b"/b", b"/d/./../d/f", b"/d//f"):
            assert await remote.realpath(root + path) == real + b"/d/f"
        assert await remote.realpath(root + b"/missing") == real + b"/d/not-there"
        await fails(ServerFailure, remote.readlink(root + b"/d/f"))

    play(story)


def test_any_name_that_is_legal_on_linux_is_listed_and_opened(play: Play) -> None:
    names = [b"\xff\xfe not utf-8", b"new\nline", b"x" * 255, b" ", b"\\", b"*", b"-rf", "ü".encode()]

    async def story(world: World) -> None:
        for name in names:
            world.changes.write(world.root + b"/" + name, name)
        assert sorted(entry.name for entry in await world.remote.scandir(world.root)) == sorted(names)
        for name in names:
            file = await world.remote.open(world.root + b"/" + name)
            assert (await read(file, 0, 300))[0] == name
            file.close()

    play(story)


# --- listings -------------------------------------------------------------------------------------------------------


def test_a_listing_has_every_entry_with_its_own_attributes(play: Play) -> None:
    async def story(world: World) -> None:
        root, changes, remote = world.root, world.changes, world.remote
        changes.mkdir(root + b"/d")
        changes.write(root + b"/f", b"123")
        changes.symlink(root + b"/l", b"d")
        entries = {entry.name: entry.attributes for entry in await remote.scandir(root)}
        assert entries.keys() == {b"d", b"f", b"l"}
        for name, attributes in entries.items():
            assert attributes == await remote.lstat(root + b"/" + name)
        assert await remote.scandir(root + b"/d") == []
        assert [entry.name for entry in await remote.scandir(root + b"/l")] == []

    play(story)


def test_a_listing_of_many_pages_is_whole(play: Play) -> None:
    async def story(world: World) -> None:
        for number in range(450):
            world.changes.write(b"%s/%d" % (world.root, number), b"")
        names = [entry.name for entry in await world.remote.scandir(world.root)]
        assert sorted(names) == sorted(b"%d" % number for number in range(450))

    play(story)


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_read_fills_what_there_is_and_brings_the_attributes(play: Play) -> None:
    data = os.urandom(700_000)

    async def story(world: World) -> None:
        world.changes.write(world.root + b"/f", data)
        file = await world.remote.open(world.root + b"/f")
        assert file.path == world.root + b"/f"
        assert file.attributes == await world.remote.lstat(world.root + b"/f")
        for offset, size in ((0, 700_000), (1, 1), (300_000, 300_000), (699_990, 100), (0, 800_000)):
            got, attributes = await read(file, offset, size)
            assert got == data[offset : offset + size]
            assert attributes == file.attributes
        assert (await read(file, 700_000, 10))[0] == b""
        assert (await read(file, 2_000_000, 10))[0] == b""
        file.close()

    play(story)


def test_many_reads_at_once_each_get_their_bytes(play: Play) -> None:
    data = os.urandom(1 << 20)

    async def story(world: World) -> None:
        world.changes.write(world.root + b"/f", data)
        file = await world.remote.open(world.root + b"/f")
        offsets = range(0, 1 << 20, 50_000)
        answers = await asyncio.gather(*(read(file, offset, 60_000) for offset in offsets))
        assert [got for got, _ in answers] == [data[offset : offset + 60_000] for offset in offsets]
        file.close()

    play(story)


def test_an_open_file_shows_what_is_written_into_it(play: Play) -> None:
    async def story(world: World) -> None:
        path = world.root + b"/f"
        world.changes.write(path, b"aaaaa")
        file = await world.remote.open(path)
        assert (await read(file, 0, 10))[0] == b"aaaaa"
        world.changes.append(path, b"bbb")
        got, attributes = await read(file, 0, 10)
        assert (got, attributes.size) == (b"aaaaabbb", 8)
        world.changes.write_at(path, 1, b"XX")
        assert (await read(file, 0, 10))[0] == b"aXXaabbb"
        world.changes.write(path, b"new")
        got, attributes = await read(file, 0, 10)
        assert (got, attributes.size) == (b"new", 3)
        world.changes.truncate(path, 5)
        assert (await read(file, 0, 10))[0] == b"new\0\0"
        file.close()

    play(story)


def test_an_open_file_that_is_replaced_or_removed_goes_on_showing_the_old_one(play: Play) -> None:
    async def story(world: World) -> None:
        path = world.root + b"/f"
        world.changes.write(path, b"old")
        world.changes.utime(path, 1_600_000_000)
        file = await world.remote.open(path)
        world.changes.replace(path, b"newer")
        got, attributes = await read(file, 0, 10)
        assert (got, attributes.size, attributes.mtime) == (b"old", 3, 1_600_000_000)
        assert (await world.remote.lstat(path)).size == 5
        second = await world.remote.open(path)
        world.changes.remove(path)
        await fails(NoSuchPath, world.remote.lstat(path))
        await fails(NoSuchPath, world.remote.open(path))
        assert (await read(file, 0, 10))[0] == b"old"
        assert (await read(second, 0, 10))[0] == b"newer"
        file.close()
        second.close()

    play(story)


def test_a_file_that_is_closed_finishes_the_reads_under_way(play: Play) -> None:
    async def story(world: World) -> None:
        world.changes.write(world.root + b"/f", b"x" * 500_000)
        file = await world.remote.open(world.root + b"/f")
        reading = asyncio.ensure_future(read(file, 0, 500_000))
        await asyncio.sleep(0)
        file.close()
        assert (await reading)[0] == b"x" * 500_000

    play(story)


def test_a_read_after_the_close_opens_the_path_anew(play: Play) -> None:
    async def story(world: World) -> None:
        path = world.root + b"/f"
        world.changes.write(path, b"old")
        file = await world.remote.open(path)
        file.close()
        world.changes.replace(path, b"newer")
        got, attributes = await read(file, 0, 10)
        assert (got, attributes.size) == (b"newer", 5)

    play(story)


def test_a_directory_is_no_file_that_can_be_opened(play: Play) -> None:
    async def story(world: World) -> None:
        await fails(NotAFile, world.remote.open(world.root))

    play(story)


def test_what_may_not_be_read_is_access_denied(play: Play, request: pytest.FixtureRequest) -> None:
    if os.getuid() == 0 and "memory" not in request.node.name:
        pytest.skip("root may read everything")

    async def story(world: World) -> None:
        root, changes, remote = world.root, world.changes, world.remote
        changes.mkdir(root + b"/d")
        changes.write(root + b"/f", b"secret")
        changes.chmod(root + b"/d", 0)
        changes.chmod(root + b"/f", 0)
        await fails(AccessDenied, remote.scandir(root + b"/d"))
        await fails(AccessDenied, remote.open(root + b"/f"))
        assert (await remote.lstat(root + b"/f")).size == 6
        changes.chmod(root + b"/d", 0o700)

    play(story)


# --- the file system and the link -----------------------------------------------------------------------------------


def test_statvfs_counts_in_fragments(play: Play) -> None:
    async def story(world: World) -> None:
        stats = await world.remote.statvfs(world.root)
        assert stats is not None
        assert stats.f_blocks >= stats.f_bfree >= stats.f_bavail > 0
        assert stats.f_frsize > 0
        assert stats.f_namemax == 255
        await fails(NoSuchPath, world.remote.statvfs(world.root + b"/none"))

    play(story)


def test_the_servers_time_is_that_of_its_files(play: Play) -> None:
    async def story(world: World) -> None:
        world.changes.write(world.root + b"/f", b"")
        now = (await world.remote.lstat(world.root + b"/f")).mtime
        told = world.remote.link.server_time
        assert told is not None
        assert now - 3 <= told <= now + 1

    play(story)


def test_an_open_file_is_opened_by_path_anew_after_the_link_was_lost(play: Play) -> None:
    async def story(world: World) -> None:
        path = world.root + b"/f"
        world.changes.write(path, b"old")
        file = await world.remote.open(path)
        assert (await read(file, 0, 10))[0] == b"old"
        world.changes.replace(path, b"newer")
        gone = world.root + b"/gone"
        world.changes.write(gone, b"")
        other = await world.remote.open(gone)
        world.changes.remove(gone)
        assert (await read(other, 0, 10))[0] == b""
        await world.break_link()
        got, attributes = await read(file, 0, 10)
        assert (got, attributes.size) == (b"newer", 5)
        await fails(NoSuchPath, read(other, 0, 10))
        assert world.remote.link.online
        file.close()
        other.close()

    play(story)


def test_a_server_that_is_gone_is_unreachable_after_the_timeout_and_never_no_such_path(play: Play) -> None:
    async def story(world: World) -> None:
        path, remote = world.root + b"/f", world.remote
        world.changes.write(path, b"x")
        file = await remote.open(path)
        await world.stop()
        questions: list[Awaitable[Any]] = [remote.lstat(path), remote.scandir(world.root)]
        questions += [remote.open(path), read(file, 0, 10), remote.stat(path), remote.realpath(path)]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unreachable] * len(questions)
        assert not remote.link.online
        since = asyncio.get_running_loop().time() - remote.link.since
        assert TIMEOUT <= since < TIMEOUT + 2

    play(story)
