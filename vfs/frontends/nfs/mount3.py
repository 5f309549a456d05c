"""The MOUNT program, version 3 (RFC 1813, appendix I): a path of the export for the root's handle. No I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from vfs.frontends.nfs.programs import Client, Result
from vfs.frontends.nfs.protocol import MOST_PATH, MOUNT_PROGRAM, Mount, Status
from vfs.frontends.nfs.rpc import AUTH_SYS, RpcCall
from vfs.frontends.nfs.xdr import Packer


class MountProgram:
    """`use`: whether a path of the export is good, see `Tickets.use`; `root`: the handle that is given for it;
    `unmounted` is called when a client says that it has unmounted."""

    number = MOUNT_PROGRAM

    def __init__(
        self, use: Callable[[bytes], bool], root: Callable[[], bytes], unmounted: Callable[[], None]
    ) -> None:
        self._use = use
        self._root = root
        self._unmounted = unmounted
        self._procedures: dict[int, Callable[[RpcCall, Client], Awaitable[Result]]] = {
            Mount.NULL: self._null,
            Mount.MNT: self._mnt,
            Mount.DUMP: self._empty,
            Mount.UMNT: self._umnt,
            Mount.UMNTALL: self._null,
            Mount.EXPORT: self._empty,
        }

    def procedure(self, number: int) -> Callable[[RpcCall, Client], Awaitable[Result]] | None:
        return self._procedures.get(number)

    async def _null(self, call: RpcCall, client: Client) -> Result:
        return Result(Packer())

    async def _mnt(self, call: RpcCall, client: Client) -> Result:
        if not self._use(call.arguments.opaque(MOST_PATH)):
            return Result(Packer().u32(Status.ACCES))
        client.trusted = True
        return Result(Packer().u32(Status.OK).opaque(self._root()).u32(1, AUTH_SYS))

    async def _umnt(self, call: RpcCall, client: Client) -> Result:
        call.arguments.opaque(MOST_PATH)
        self._unmounted()
        return Result(Packer())

    async def _empty(self, call: RpcCall, client: Client) -> Result:
        """No mounts and no exports: their paths are secrets."""
        return Result(Packer().u32(0))
