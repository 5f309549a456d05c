"""The MOUNT program, version 3 (RFC 1813, appendix I): a path of the export for the root's handle. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vfs.frontends.nfs.programs import Client, Procedure, Result
from vfs.frontends.nfs.protocol import MOST_PATH, Mount, Status
from vfs.frontends.nfs.rpc import AUTH_SYS, RpcCall
from vfs.frontends.nfs.xdr import Packer


def procedures(
    use: Callable[[bytes], bool], root: Callable[[], bytes], unmounted: Callable[[], None]
) -> Mapping[int, Procedure]:
    """`use`: whether a path of the export is good, see `Tickets.use`; `root`: the handle that is given for it;
    `unmounted` is called when a client says that it has unmounted."""

    async def null(call: RpcCall, client: Client) -> Result:
        return Result(Packer())

    async def mnt(call: RpcCall, client: Client) -> Result:
        if not use(call.arguments.opaque(MOST_PATH)):
            return Result(Packer().u32(Status.ACCES))
        client.trusted = True
        return Result(Packer().u32(Status.OK).opaque(root()).u32(1, AUTH_SYS))

    async def umnt(call: RpcCall, client: Client) -> Result:
        call.arguments.opaque(MOST_PATH)
        unmounted()
        return Result(Packer())

    async def empty(call: RpcCall, client: Client) -> Result:
        """No mounts and no exports: their paths are secrets."""
        return Result(Packer().u32(0))

    return {
        Mount.NULL: null,
        Mount.MNT: mnt,
        Mount.DUMP: empty,
        Mount.UMNT: umnt,
        Mount.UMNTALL: null,
        Mount.EXPORT: empty,
    }
