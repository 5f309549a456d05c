"""A tree as an NFS export: the server with its two programs, of which the MOUNT program is here (RFC 1813, appendix I)."""

from __future__ import annotations

from collections.abc import Callable

from vfs.files.service import Files
from vfs.frontends.nfs.files import NfsFiles
from vfs.frontends.nfs.procedures import NfsProgram
from vfs.frontends.nfs.programs import Client, Procedure, Programs
from vfs.frontends.nfs.protocol import MOST_PATH, MOUNT_PROGRAM, NFS_PROGRAM, MountProcedure, NfsStatus
from vfs.frontends.nfs.rpc import AUTH_SYS, RpcCall
from vfs.frontends.nfs.server import NfsServer
from vfs.frontends.nfs.tickets import Tickets
from vfs.frontends.nfs.xdr import Packer


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
        self._tickets = Tickets()
        self._program = NfsProgram(self.files, everybody=everybody)
        self._unmounted = unmounted
        mount: dict[int, Procedure] = {
            MountProcedure.NULL: self._null,
            MountProcedure.MNT: self._mnt,
            MountProcedure.DUMP: self._nothing,
            MountProcedure.UMNT: self._umnt,
            MountProcedure.UMNTALL: self._null,
            MountProcedure.EXPORT: self._nothing,
        }
        programs = Programs({NFS_PROGRAM: self._program.procedures, MOUNT_PROGRAM: mount})
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

    # --- the MOUNT program ------------------------------------------------------------------------------------------

    async def _null(self, call: RpcCall, client: Client) -> Packer:
        return Packer()

    async def _mnt(self, call: RpcCall, client: Client) -> Packer:
        if not self._tickets.use(call.arguments.opaque(MOST_PATH)):
            return Packer().u32(NfsStatus.ACCES)
        client.trusted = True
        return Packer().u32(NfsStatus.OK).opaque(self._program.root()).u32(1, AUTH_SYS)

    async def _umnt(self, call: RpcCall, client: Client) -> Packer:
        call.arguments.opaque(MOST_PATH)
        self._unmounted()
        return Packer()

    async def _nothing(self, call: RpcCall, client: Client) -> Packer:
        """No mounts and no exports: their paths are secrets."""
        return Packer().u32(0)
