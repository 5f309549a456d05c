"""The procedures of a read-only NFSv3 server, over a tree in memory and without a socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.lab.nfs_client import NfsClient, NfsError, RpcError, call
from vfs.frontends.nfs import protocol as p
from vfs.frontends.nfs.export import Export
from vfs.frontends.nfs.programs import Client
from vfs.frontends.nfs.protocol import NfsProcedure, NfsStatus
from vfs.frontends.nfs.xdr import Packer

OTHER = os.getuid() + 1000


class Served:
    """A server without a socket over a stack; `client` is its mounting user's."""

    def __init__(self, stack: MemoryStack, *, everybody: bool = False, timeout: float = 30.0) -> None:
        self.stack = stack
        stack.service.timeout = timeout
        self.unmounted = asyncio.Event()
        self.export = Export(
            stack.service, everybody=everybody, privileged=False, unmounted=self.unmounted.set
        )
        self.files = self.export.files
        self.connection = Client()
        self.client = self.user(os.getuid())
        self.root = self.export._program.root()

    def user(self, uid: int | None) -> NfsClient:
        return NfsClient(self.send, uid=uid)

    async def send(self, record: bytes) -> bytes:
        reply = await self.export.programs.answer(record, self.connection)
        data = b"".join((reply.data, *reply.pieces))
        assert len(data) == len(reply)
        return data


Story = Callable[[Served], Awaitable[None]]


def serve(story: Story, **options: object) -> None:
    async def main(stack: MemoryStack) -> None:
        served = Served(stack, **options)  # type: ignore[arg-type]
        try:
            await story(served)
        finally:
            served.files.close()

    play(main)


async def failing(work: Awaitable[object]) -> NfsStatus:
    with pytest.raises(NfsError) as caught:
        await work
    return caught.value.status


def test_attributes_are_the_servers_without_write_bits_and_owned_by_who_mounted() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/f", b"12345")
        served.stack.files.chmod(ROOT + b"/f", 0o664)
        handle, its = await served.client.lookup(served.root, b"f")
        assert its == await served.client.getattr(handle)
        assert (its.kind, its.mode, its.size, its.uid) == (1, 0o444, 5, os.getuid())
        assert its.mtime == (await served.stack.node(b"f")).version.mtime
        root = await served.client.getattr(served.root)
        assert (root.kind, root.mode) == (2, 0o555)

    serve(story)


def test_the_bytes_are_the_files() -> None:
    async def story(served: Served) -> None:
        data = os.urandom((3 << 20) + 77)
        served.stack.old(ROOT + b"/f", data)
        handle, _ = await served.client.lookup(served.root, b"f")
        for step in (1 << 20, 128 << 10, 99_999):
            assert await served.client.whole(handle, step) == data
        assert await served.client.read(handle, 5, 3) == (data[5:8], False)
        assert await served.client.read(handle, len(data) - 3, 3) == (data[-3:], True)
        assert await served.client.read(handle, len(data) - 3, 4) == (data[-3:], True)
        assert await served.client.read(handle, len(data), 4) == (b"", True)
        assert await served.client.read(handle, 1 << 63, 4) == (b"", True)
        assert await served.client.read(handle, 0, 0) == (b"", False)

    serve(story)


def test_a_failure_before_the_node_is_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story(served: Served) -> None:
        await failing(served.user(OTHER).getattr(served.root))
        await failing(served.client.getattr(bytes(24)))
        access, forged = caplog.messages
        assert "getattr{req=" in access
        assert access.endswith("status=ACCES}: EACCES at once")
        assert forged.endswith("status=BADHANDLE}: EIO at once")

    caplog.set_level("DEBUG", "vfs.base.calls")
    serve(story)


def test_growth_keeps_the_handle_and_a_replacement_makes_it_stale() -> None:
    async def story(served: Served) -> None:
        path = ROOT + b"/events.log"
        served.stack.old(path, b"a" * 5000)
        handle, _ = await served.client.lookup(served.root, b"events.log")
        assert await served.client.whole(handle) == b"a" * 5000
        served.stack.files.append(path, b"b" * 3000)
        await asyncio.sleep(2.1)
        assert (await served.client.getattr(handle)).size == 8000
        assert await served.client.whole(handle) == b"a" * 5000 + b"b" * 3000
        served.stack.files.replace(path, b"c" * 40)
        served.stack.files.utime(path, 12345)
        await asyncio.sleep(2.1)
        assert await failing(served.client.getattr(handle)) is NfsStatus.STALE
        assert await failing(served.client.read(handle, 0, 4)) is NfsStatus.STALE
        anew, _ = await served.client.lookup(served.root, b"events.log")
        assert anew != handle
        assert await served.client.whole(anew) == b"c" * 40
        served.stack.files.remove(path)
        await asyncio.sleep(2.1)
        assert await failing(served.client.getattr(anew)) is NfsStatus.STALE
        assert await failing(served.client.lookup(served.root, b"events.log")) is NfsStatus.NOENT

    serve(story)


def test_attributes_go_with_an_answer_only_while_they_are_fresh() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/f", b"x" * 100)
        handle, _ = await served.client.lookup(served.root, b"f")
        await served.client.whole(handle)

        async def known() -> bool:
            answer = await served.client.nfs(NfsProcedure.READ, Packer().opaque(handle).u64(0).u32(4))
            return bool(answer.u32())

        assert await known()
        served.stack.remote.go_offline()
        await asyncio.sleep(2.1)
        assert not await known()

    serve(story)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("most", [700, 8192, 1 << 20])
def test_a_directory_is_listed_page_by_page(plus: bool, most: int) -> None:
    async def story(served: Served) -> None:
        names = {b"%d" % number + b"n" * (number % 200) for number in range(500)}
        for name in names:
            served.stack.old(ROOT + b"/" + name, name)
        entries = await served.client.list(served.root, plus=plus, most=most)
        assert {entry.name for entry in entries} == names | {b".", b".."}
        assert len(entries) == len(names) + 2
        assert len({entry.cookie for entry in entries}) == len(entries)
        if plus:
            for entry in entries[2:40]:
                assert entry.handle is not None
                assert entry.attributes == await served.client.getattr(entry.handle)
                assert await served.client.whole(entry.handle) == entry.name

    serve(story)


def test_a_name_that_stays_is_listed_once_however_the_directory_changes_between_pages() -> None:
    async def story(served: Served) -> None:
        for number in range(200):
            served.stack.old(ROOT + b"/stays%d" % number, b"")
            served.stack.old(ROOT + b"/goes%d" % number, b"")
        entries, end = await served.client.page(served.root, 0, plus=True, most=2000)
        turn = 0
        while not end:
            served.stack.files.remove(ROOT + b"/goes%d" % turn)
            served.stack.files.write(ROOT + b"/comes%d" % turn, b"")
            turn += 1
            await asyncio.sleep(2.1)
            more, end = await served.client.page(served.root, entries[-1].cookie, plus=True, most=2000)
            entries += more
        names = [entry.name for entry in entries]
        assert turn > 10
        assert len(set(names)) == len(names)
        assert {b"stays%d" % number for number in range(200)} <= set(names)

    serve(story)


def test_a_listing_in_pages_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(served: Served) -> None:
        for number in range(200):
            served.stack.old(ROOT + b"/%d" % number, b"")
        entries, end = await served.client.page(served.root, 0, plus=False, most=600)
        before = served.stack.remote.requests["scandir"]
        pages = 1
        while not end:
            await asyncio.sleep(2.1)
            more, end = await served.client.page(served.root, entries[-1].cookie, plus=False, most=600)
            entries += more
            pages += 1
        assert pages > 5
        assert len(entries) == 202
        assert served.stack.remote.requests["scandir"] == before

    serve(story)


def test_a_directory_that_was_listed_is_another_for_clients_as_soon_as_a_name_is() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/a", b"")
        served.stack.files.utime(ROOT, 1000)
        await served.client.list(served.root)
        before = await served.client.getattr(served.root)
        await asyncio.sleep(2.1)
        assert await served.client.getattr(served.root) == before
        for change in (served.stack.files.write, served.stack.files.replace):
            change(ROOT + b"/b", b"other")
            served.stack.files.utime(ROOT, 1000)  # within a second the time says nothing
            served.stack.files.utime(ROOT + b"/b", 5 if change == served.stack.files.replace else 6)
            await asyncio.sleep(2.1)
            after = await served.client.getattr(served.root)
            assert after.mtime == before.mtime
            assert after.change != before.change
            before = after
        served.stack.files.remove(ROOT + b"/b")
        served.stack.files.utime(ROOT, 1000)
        await asyncio.sleep(2.1)
        assert (await served.client.getattr(served.root)).change != before.change

    serve(story)


def test_links_and_names_that_lead_up() -> None:
    async def story(served: Served) -> None:
        served.stack.files.mkdir(ROOT + b"/d")
        served.stack.old(ROOT + b"/d/f", b"x")
        served.stack.files.symlink(ROOT + b"/l", b"d/f")
        link, its = await served.client.lookup(served.root, b"l")
        assert its is not None
        assert (its.kind, its.size) == (5, 3)
        assert await served.client.readlink(link) == b"d/f"
        directory, _ = await served.client.lookup(served.root, b"d")
        assert (await served.client.lookup(directory, b".."))[0] == served.root
        assert (await served.client.lookup(directory, b"."))[0] == directory
        assert (await served.client.lookup(served.root, b".."))[0] == served.root
        assert await failing(served.client.readlink(directory)) is NfsStatus.INVAL
        file, _ = await served.client.lookup(directory, b"f")
        assert await failing(served.client.lookup(file, b"x")) is NfsStatus.NOTDIR
        assert await failing(served.client.list(file)) is NfsStatus.NOTDIR
        assert await failing(served.client.read(directory, 0, 1)) is NfsStatus.ISDIR
        assert await failing(served.client.read(link, 0, 1)) is NfsStatus.INVAL

    serve(story)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (b"no", NfsStatus.NOENT),
        (b"", NfsStatus.INVAL),
        (b"a/b", NfsStatus.INVAL),
        (b"a\0", NfsStatus.INVAL),
        (b"n" * 256, NfsStatus.NAMETOOLONG),
    ],
)
def test_a_name_that_is_not_there_or_is_none(name: bytes, status: NfsStatus) -> None:
    async def story(served: Served) -> None:
        assert await failing(served.client.lookup(served.root, name)) is status

    serve(story)


def test_who_may_read_what() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/f", b"x")
        served.stack.files.chmod(ROOT + b"/f", 0o750)
        handle, _ = await served.client.lookup(served.root, b"f")
        root, other = served.user(0), served.user(OTHER)
        assert await root.access(handle) == p.READS | p.EXECUTES
        assert await root.access(served.root) == p.READS | p.LOOKS
        assert await root.access(handle, p.READS) == p.READS
        assert await other.access(handle) == 0
        assert await other.access(served.root) == p.READS | p.LOOKS

    serve(story, everybody=True)


def test_another_user_gets_nothing_through_the_kernel_either() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/f", b"x")
        handle, _ = await served.client.lookup(served.root, b"f")
        other = served.user(OTHER)
        assert await failing(other.getattr(served.root)) is NfsStatus.ACCES
        assert await failing(other.access(handle)) is NfsStatus.ACCES
        assert await failing(other.read(handle, 0, 1)) is NfsStatus.ACCES
        assert await failing(other.list(served.root, plus=True)) is NfsStatus.ACCES
        with pytest.raises(RpcError) as caught:
            await served.user(None).getattr(served.root)
        assert caught.value.words == (1, 1, 5)

    serve(story)


def test_every_change_is_refused_as_read_only() -> None:
    bodies = {NfsProcedure.RENAME: 4, NfsProcedure.LINK: 3}

    async def story(served: Served) -> None:
        for procedure in p.WRITES:
            for arguments in (b"", bytes(Packer().opaque(served.root).opaque(b"new").data), b"\xff" * 99):
                answer = await served.client.raw(p.NFS_PROGRAM, procedure, arguments)
                assert answer.u32() == NfsStatus.ROFS
                assert [answer.u32() for _ in range(answer.left // 4)] == [0] * bodies.get(procedure, 2)

    serve(story)


def test_the_room_and_what_the_server_can_do() -> None:
    async def story(served: Served) -> None:
        argument = Packer().opaque(served.root)
        await served.client.getattr(served.root)
        answer = await served.client.nfs(NfsProcedure.FSSTAT, argument)
        assert answer.u32() == 1
        assert answer.left == 84 + 6 * 8 + 4
        answer = await served.client.nfs(NfsProcedure.FSINFO, argument)
        assert answer.left == 4 + 84 + 7 * 4 + 8 + 8 + 4
        answer = await served.client.nfs(NfsProcedure.PATHCONF, argument)
        assert answer.left == 4 + 84 + 6 * 4
        assert (await served.client.raw(p.NFS_PROGRAM, NfsProcedure.NULL)).left == 0

    serve(story)


def test_a_server_that_cannot_be_asked_is_an_error_within_the_timeout_and_never_later() -> None:
    async def story(served: Served) -> None:
        served.stack.old(ROOT + b"/known", b"x" * 10)
        served.stack.old(ROOT + b"/unknown", b"x" * 10)
        handle, _ = await served.client.lookup(served.root, b"known")
        other, _ = await served.client.lookup(served.root, b"unknown")
        assert await served.client.whole(handle) == b"x" * 10
        served.stack.remote.go_offline()
        await asyncio.sleep(10)
        assert (await served.client.getattr(handle)).size == 10
        assert await served.client.whole(handle) == b"x" * 10
        began = asyncio.get_running_loop().time()
        assert await failing(served.client.read(other, 0, 10)) is NfsStatus.IO
        assert asyncio.get_running_loop().time() - began <= 5.5

    serve(story, timeout=5.0)


# --- wrong calls ------------------------------------------------------------------------------------------------------


def test_wrong_programs_versions_and_procedures() -> None:
    async def story(served: Served) -> None:
        for program, version, procedure, words in (
            (100000, 3, 0, (0, 0, 0, 1)),
            (p.NFS_PROGRAM, 4, 0, (0, 0, 0, 2, 3, 3)),
            (p.MOUNT_PROGRAM, 1, 0, (0, 0, 0, 2, 3, 3)),
            (p.NFS_PROGRAM, 3, 22, (0, 0, 0, 3)),
            (p.MOUNT_PROGRAM, 3, 6, (0, 0, 0, 3)),
            (p.NFS_PROGRAM, 3, 1, (0, 0, 0, 4)),
        ):
            with pytest.raises(RpcError) as caught:
                await served.client.raw(program, procedure, version=version)
            assert caught.value.words == words
        wrong = bytearray(call(7, p.NFS_PROGRAM, 0))
        wrong[8:12] = (3).to_bytes(4)
        assert await served.send(bytes(wrong)) == bytes(Packer().u32(7, 1, 1, 0, 2, 2).data)

    serve(story)


def test_wrong_handles() -> None:
    async def story(served: Served) -> None:
        forged = bytes([served.root[0] ^ 1]) + served.root[1:]
        for handle in (b"", b"x", forged, served.root[:-1], served.root + b"\0", b"\0" * 64):
            assert await failing(served.client.getattr(handle)) is NfsStatus.BADHANDLE
        assert not served.connection.trusted
        with pytest.raises(RpcError) as caught:
            await served.client.getattr(b"\0" * 65)
        assert caught.value.words == (0, 0, 0, 4)
        await served.client.getattr(served.root)
        assert served.connection.trusted

    serve(story)


def test_a_path_of_the_export_is_good_once_and_for_seconds() -> None:
    async def story(served: Served) -> None:
        path = served.export.path(10.0).encode()
        for wrong in (b"", b"/", b"/artisync/", path + b"\0", path[:-1]):
            assert await failing(served.client.mount(wrong)) is NfsStatus.ACCES
        assert not served.connection.trusted
        assert await served.client.mount(path) == served.root
        assert served.connection.trusted
        assert await failing(served.client.mount(path)) is NfsStatus.ACCES
        late = served.export.path(10.0).encode()
        await asyncio.sleep(11)
        assert await failing(served.client.mount(late)) is NfsStatus.ACCES
        assert served.export.mounts == 1

    serve(story)


def test_nobody_is_told_what_is_exported() -> None:
    async def story(served: Served) -> None:
        served.export.path(10.0)
        for procedure in (p.MountProcedure.DUMP, p.MountProcedure.EXPORT):
            answer = await served.client.raw(p.MOUNT_PROGRAM, procedure)
            assert (answer.u32(), answer.left) == (0, 0)
        argument = bytes(Packer().opaque(b"/x").data)
        assert (await served.client.raw(p.MOUNT_PROGRAM, p.MountProcedure.UMNT, argument)).left == 0
        assert served.unmounted.is_set()

    serve(story)
