"""The files of a server mounted by FUSE: the loop watches libfuse's descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from vfs.base.settings import Settings
from vfs.files.service import Files
from vfs.frontends.fuse.available import escape
from vfs.frontends.fuse.kernel_readahead import KernelReadahead
from vfs.frontends.fuse.operations import Operations
from vfs.frontends.fuse.session import FuseSession


class FuseMount:
    """A mount by FUSE. `gone` is called when the kernel has unmounted it."""

    def __init__(
        self, files: Files, settings: Settings, mountpoint: Path, *, gone: Callable[[], None]
    ) -> None:
        self._gone = gone
        self._operations = Operations(files)
        self._session = FuseSession(self._operations, mountpoint, mount_options(settings))
        self._operations.forget_attributes = self._session.forget_attributes
        self._readahead: KernelReadahead | None = None

    @property
    def device(self) -> str:
        return self._session.device

    @property
    def open_files(self) -> int:
        return self._operations.open_files

    @property
    def waiting(self) -> Sequence[int]:
        return self._operations.waiting

    async def mount(self) -> None:
        self._session.mount()
        self._readahead = KernelReadahead(self.device)
        self._operations.kernel_readahead = self._readahead.set
        asyncio.get_running_loop().add_reader(self._session.fileno(), self._process)

    def _process(self) -> None:
        if not self._session.process():
            self._stop_reading()
            self._gone()

    def _stop_reading(self) -> None:
        if self._session.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._session.fileno())

    async def aclose(self) -> None:
        self._stop_reading()
        await self._operations.aclose()
        if self._readahead is not None:
            self._readahead.close()
        self._session.destroy()


def mount_options(settings: Settings) -> list[str]:
    """What the mount is mounted with."""
    name = escape(f"{settings.address.host}:{settings.remote_root}")
    options = ["nosuid", "nodev", "noatime", "default_permissions", f"fsname={name}", "subtype=artisync"]
    if settings.allow_other:
        options.append("allow_other")
    return options
