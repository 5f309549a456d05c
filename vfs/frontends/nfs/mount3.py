"""The MOUNT program, version 3 (RFC 1813, appendix I): a path of the export for the root's handle. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vfs.frontends.nfs.programs import Client, Procedure
from vfs.frontends.nfs.protocol import MOST_PATH, MountProcedure, NfsStatus
from vfs.frontends.nfs.rpc import AUTH_SYS, RpcCall
from vfs.frontends.nfs.xdr import Packer


def procedures(
    use: Callable[[bytes], bool], root: Callable[[], bytes], unmounted: Callable[[], None]
) -> Mapping[int, Procedure]:
    """`use`: whether a path of the export is good, see `Tickets.use`; `root`: the handle that is given for it;
    `unmounted` is called when a client says that it has unmounted."""

    async def null(call: RpcCall, client: Client) -> Packer:
        return Packer()

    async def mnt(call: RpcCall, client: Client) -> Packer:
        if not use(call.arguments.opaque(MOST_PATH)):
            return Packer().u32(NfsStatus.ACCES)
        client.trusted = True
        return Packer().u32(NfsStatus.OK).opaque(root()).u32(1, AUTH_SYS)

    async def umnt(call: RpcCall, client: Client) -> Packer:
        call.arguments.opaque(MOST_PATH)
        unmounted()
        return Packer()

    async def empty(call: RpcCall, client: Client) -> Packer:
        """No mounts and no exports: their paths are secrets."""
        return Packer().u32(0)

    return {
        MountProcedure.NULL: null,
        MountProcedure.MNT: mnt,
        MountProcedure.DUMP: empty,
        MountProcedure.UMNT: umnt,
        MountProcedure.UMNTALL: null,
        MountProcedure.EXPORT: empty,
    }
