"""A mount's life by NFS, with a system that only pretends: its `mount` asks for the root's handle, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.memory_stack import MemoryStack
from tests.lab.nfs_client import NfsClient, NfsError, marked
from vfs.base import mount_table
from vfs.base.errors import MountError, NfsMissing
from vfs.base.mount_table import MountInfo
from vfs.base.settings import resolve
from vfs.frontends.nfs import mounted, server
from vfs.frontends.nfs.mounted import NfsMount

PLACE = Path("/mnt/here")


class System:
    """What is mounted; `said` and `code` are of a `mount` that fails, `asks` whether it got as far as the server."""

    def __init__(self) -> None:
        self.mounted: MountInfo | None = None
        self.ran: list[list[str]] = []
        self.code, self.said, self.asks = 0, "", True
        self.busy = False
        self.connection: asyncio.StreamWriter | None = None

    def mounts(self) -> list[MountInfo]:
        return [] if self.mounted is None else [self.mounted]

    async def run(self, words: Sequence[str]) -> tuple[int, str]:
        self.ran.append(list(words))
        if "umount" in words:
            if self.busy and "-l" not in words:
                return 32, "target is busy"
            self.unmount()
            return 0, ""
        if self.asks:
            await self.mount(words[-2])
        return self.code, self.said

    async def mount(self, source: str) -> bytes:
        """As the kernel does; the root's handle."""
        host, _, path = source.partition(":")
        reader, writer = await asyncio.open_connection(host, int(path.split("/")[2]))

        async def send(body: bytes) -> bytes:
            writer.write(marked(body))
            (size,) = struct.unpack(">I", await reader.readexactly(4))
            return await reader.readexactly(size & 0x7FFFFFFF)

        handle = await NfsClient(send).mount(path.encode())
        if not self.code:
            self.mounted = MountInfo(PLACE, "nfs", source)
            self.connection = writer
        return handle

    def unmount(self) -> None:
        self.mounted = None
        if self.connection is not None:
            self.connection.close()


Story = Callable[[NfsMount, System, asyncio.Event], Awaitable[None]]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a story with a mount that is not made yet."""
    monkeypatch.setattr(server, "PRIVILEGED", 1 << 16)
    monkeypatch.setattr(mounted, "LOOK_SECONDS", 0.02)

    def run(story: Story, *, uid: int = 0) -> System:
        system = System()
        monkeypatch.setattr("os.getuid", lambda: uid)
        monkeypatch.setattr(mounted, "_run", system.run)
        monkeypatch.setattr(mount_table, "mounts", system.mounts)

        async def main() -> None:
            stack: Any = MemoryStack()
            settings: Any = SimpleNamespace(timeout=30.0, ttl=2.0, allow_other=False)
            gone = asyncio.Event()
            nfs = NfsMount(stack.service, settings, PLACE, gone=gone.set)
            try:
                await story(nfs, system, gone)
            finally:
                await nfs.aclose()
                system.unmount()
                await stack.aclose()

        asyncio.run(asyncio.wait_for(main(), 20))
        return system

    return run


def test_it_is_mounted_by_the_command_and_unmounted_at_the_end(live: Callable[..., System]) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        await nfs.mount()
        assert system.mounted is not None
        assert not gone.is_set()

    system = live(story)
    assert system.mounted is None
    assert [words[0] for words in system.ran] == ["mount", "umount"]
    assert "actimeo=1" in system.ran[0][5].split(",")


def test_what_the_client_keeps_is_taken_off_the_ttl_below(tmp_path: Path) -> None:
    settings = resolve({"ssh": "ssh me@host", "cache_dir": tmp_path, "ttl": "2s"})
    assert mounted.settings_for(settings).ttl == 1.0


def test_what_is_busy_at_the_end_goes_out_of_sight(live: Callable[..., System]) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        await nfs.mount()
        system.busy = True

    assert [words[:4] for words in live(story).ran[1:]] == [
        ["umount", "-i", "-c", str(PLACE)],
        ["umount", "-i", "-c", "-l"],
    ]


def test_somebody_who_unmounts_it_ends_it_and_open_files_keep_it(live: Callable[..., System]) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        await nfs.mount()
        system.mounted = None  # as by `umount -l`: the client is still there
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), 0.2)
        assert not gone.is_set()
        system.unmount()
        await gone.wait()

    live(story)


def test_a_mount_that_was_moved_with_a_directory_above_it_goes_on_and_is_unmounted_where_it_is(
    live: Callable[..., System],
) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        await nfs.mount()
        assert system.mounted is not None
        assert system.connection is not None
        system.mounted = replace(system.mounted, path=Path("/moved"), device="0:7")
        system.connection.close()  # as of a client that asks for nothing any more
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), 0.2)
        assert not gone.is_set()
        assert nfs.device == "0:7"

    assert live(story).ran[-1][-1] == "/moved"


@pytest.mark.parametrize(
    ("said", "kind"),
    [("mount: unknown filesystem type 'nfs'.", NfsMissing), ("mount: /mnt: denied", MountError)],
)
def test_a_command_that_fails_says_why(live: Callable[..., System], said: str, kind: type) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        system.code, system.said, system.asks = 32, said, False
        with pytest.raises(kind, match="cannot be mounted by NFS: mount: "):
            await nfs.mount()

    assert len(live(story).ran) == 1


def test_who_used_the_path_first_has_a_handle_that_is_worth_nothing(live: Callable[..., System]) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        async def thief(words: Sequence[str]) -> tuple[int, str]:
            handle = await system.mount(words[-2])
            assert handle
            with pytest.raises(NfsError):
                await system.mount(words[-2])
            system.mounted = None
            return 32, "access denied"

        mounted._run, run = thief, mounted._run
        try:
            with pytest.raises(MountError, match="access denied"):
                await nfs.mount()
        finally:
            mounted._run = run
        await nfs.aclose()
        with pytest.raises(OSError):
            await system.mount(f"127.0.0.1:/artisync/{nfs._export.port}/x")

    live(story)


def test_without_the_right_the_exact_command_is_told_and_waited_for(
    live: Callable[..., System], caplog: pytest.LogCaptureFixture
) -> None:
    async def story(nfs: NfsMount, system: System, gone: asyncio.Event) -> None:
        system.code, system.said, system.asks = 1, "sudo: a password is required", False
        mounting = asyncio.ensure_future(nfs.mount())
        while "sudo mount -i -t nfs" not in caplog.text:
            await asyncio.sleep(0.01)
        system.code = 0
        (line,) = (text for text in caplog.messages if text.startswith("sudo mount"))
        await system.mount(line.split()[-2])
        await mounting

    assert live(story, uid=1000).ran[0][:3] == ["sudo", "-n", "mount"]
