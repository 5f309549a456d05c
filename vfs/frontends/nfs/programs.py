"""Dispatches a record to its program, version and procedure, and makes the reply. No I/O of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from vfs.frontends.nfs import rpc
from vfs.frontends.nfs.protocol import VERSION
from vfs.frontends.nfs.rpc import Accept, Denied, RpcCall
from vfs.frontends.nfs.xdr import Malformed, Packer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Client:
    """The state of one connection."""

    trusted: bool = False
    """It has shown a handle or a path of the export that was good."""


Procedure = Callable[[RpcCall, Client], Awaitable[Packer]]
"""The results of a call; may raise `Malformed` and `Denied`."""


class Programs:
    """Answers records. One call never fails another: whatever is wrong with it becomes its answer.

    `programs`: the procedures of each program, by number.
    """

    def __init__(self, programs: Mapping[int, Mapping[int, Procedure]]) -> None:
        self._programs = programs

    async def answer(self, record: bytes, client: Client) -> Packer:
        """The reply to a call. Raises `Malformed` for a record that is no call: the connection should end."""
        try:
            call = rpc.parse(record)
        except Denied as denied:
            return denied.reply
        program = self._programs.get(call.program)
        if program is None:
            return rpc.accepted(call.xid, Accept.PROG_UNAVAIL)
        if call.version != VERSION:
            return rpc.accepted(call.xid, Accept.PROG_MISMATCH).u32(VERSION, VERSION)
        procedure = program.get(call.procedure)
        if procedure is None:
            return rpc.accepted(call.xid, Accept.PROC_UNAVAIL)
        try:
            result = await procedure(call, client)
            return rpc.accepted(call.xid, Accept.SUCCESS).then(result)
        except Malformed as error:
            log.debug("procedure %d of %d: %s", call.procedure, call.program, error)
            return rpc.accepted(call.xid, Accept.GARBAGE_ARGS)
        except Denied as denied:
            return denied.reply
        except Exception:
            log.exception("procedure %d of %d failed", call.procedure, call.program)
            return rpc.accepted(call.xid, Accept.SYSTEM_ERR)
