"""A tree as an NFS export: the programs, the server and the paths by which it can be mounted, wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vfs.files.service import Files
from vfs.frontends.nfs.files import NfsFiles
from vfs.frontends.nfs.mount3 import procedures as mount_procedures
from vfs.frontends.nfs.procedures import NfsProgram
from vfs.frontends.nfs.programs import Programs
from vfs.frontends.nfs.protocol import MOUNT_PROGRAM, NFS_PROGRAM
from vfs.frontends.nfs.server import NfsServer
from vfs.frontends.nfs.tickets import FileHandles, Tickets


class Export(NfsServer):
    """`everybody`: other users of the machine may read, too. `privileged`: only clients on ports of root are served.

    `unmounted` is called when a client says that it is done.
    """

    def __init__(
        self,
        files: Files,
        *,
        everybody: bool,
        privileged: bool,
        unmounted: Callable[[], None] = lambda: None,
    ) -> None:
        self.files = NfsFiles(files)
        self._tickets = Tickets(asyncio.get_running_loop().time)
        self.program = program = NfsProgram(self.files, FileHandles(), everybody=everybody)
        mount = mount_procedures(self._tickets.use, program.root, unmounted)
        programs = Programs({NFS_PROGRAM: program.procedures, MOUNT_PROGRAM: mount})
        super().__init__(programs, privileged=privileged)

    @property
    def mounts(self) -> int:
        """How often it was mounted."""
        return self._tickets.used

    def path(self, seconds: float) -> str:
        """A path to mount, valid once, for `seconds`."""
        return self._tickets.issue(self.port, seconds)

    def close(self) -> None:
        """End all connections, and close what is open."""
        super().close()
        self.files.close()
