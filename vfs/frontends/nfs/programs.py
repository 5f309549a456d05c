"""Dispatches a record to its program, version and procedure, and makes the reply. No I/O of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfs.frontends.nfs import rpc
from vfs.frontends.nfs.protocol import VERSION
from vfs.frontends.nfs.rpc import Accept, Auth, RpcCall
from vfs.frontends.nfs.xdr import Malformed, Packer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Client:
    """The state of one connection."""

    trusted: bool = False
    """It has shown a handle or a path of the export that was good."""


@dataclass(slots=True)
class RpcResult:
    """The results of a procedure: `head`, then `pieces` of memory that are sent without a copy, then padding."""

    head: Packer
    pieces: Sequence[memoryview] = ()
    keep: Any = None
    """What owns the memory of `pieces`; held until they are sent."""


@dataclass(slots=True)
class RpcReply:
    """What is sent for one call, its record mark included."""

    buffers: list[memoryview]
    keep: Any = field(default=None, repr=False)


Procedure = Callable[[RpcCall, Client], Awaitable[RpcResult]]
"""Answers a call; may raise `Malformed` and `TooWeak`."""


class TooWeak(Exception):
    """The caller gave no user id."""


class Programs:
    """Answers records. One call never fails another: whatever is wrong with it becomes its answer.

    `programs`: the procedures of each program, by number.
    """

    def __init__(self, programs: Mapping[int, Mapping[int, Procedure]]) -> None:
        self._programs = programs

    async def answer(self, record: bytes, client: Client) -> RpcReply:
        """The reply to a call. Raises `Malformed` for a record that is no call: the connection should end."""
        try:
            call = rpc.parse(record)
        except rpc.Denied as denied:
            return _reply(denied.reply, None)
        program = self._programs.get(call.program)
        if program is None:
            return _reply(rpc.accepted(call.xid, Accept.PROG_UNAVAIL), None)
        if call.version != VERSION:
            return _reply(rpc.accepted(call.xid, Accept.PROG_MISMATCH).u32(VERSION, VERSION), None)
        procedure = program.get(call.procedure)
        if procedure is None:
            return _reply(rpc.accepted(call.xid, Accept.PROC_UNAVAIL), None)
        try:
            return _reply(rpc.accepted(call.xid, Accept.SUCCESS), await procedure(call, client))
        except Malformed as error:
            log.debug("procedure %d of %d: %s", call.procedure, call.program, error)
            return _reply(rpc.accepted(call.xid, Accept.GARBAGE_ARGS), None)
        except TooWeak:
            return _reply(rpc.refused(call.xid, Auth.TOOWEAK), None)
        except Exception:
            log.exception("procedure %d of %d failed", call.procedure, call.program)
            return _reply(rpc.accepted(call.xid, Accept.SYSTEM_ERR), None)


def _reply(head: Packer, result: RpcResult | None) -> RpcReply:
    if result is None:
        return RpcReply([memoryview(rpc.mark(len(head)) + head.data)])
    head.raw(result.head.data)
    data = sum(map(len, result.pieces))
    padding = bytes(-data % 4)
    buffers = [memoryview(rpc.mark(len(head) + data + len(padding)) + head.data), *result.pieces]
    if padding:
        buffers.append(memoryview(padding))
    return RpcReply(buffers, result.keep)
