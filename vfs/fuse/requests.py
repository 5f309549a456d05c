"""What can be asked about a request that is being served: who sent it, and whether it still waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vfs.fuse.library import INTERRUPT, lib
from vfs.fuse.reply import Request

__all__ = ["Caller", "Request", "caller", "forget_interrupt", "on_interrupt"]


class Caller(NamedTuple):
    """The process behind a request."""

    uid: int
    gid: int
    pid: int


_waiting: dict[Request, Callable[[], object]] = {}


def caller(req: Request) -> Caller:
    """Who sent the request."""
    context = lib.fuse_req_ctx(req).contents
    return Caller(context.uid, context.gid, context.pid)


def on_interrupt(req: Request, callback: Callable[[], object]) -> None:
    """Call `callback` on the session's thread when the process that waits for `req` is interrupted before the answer.

    Afterwards `forget_interrupt` with the same arguments lets go of it.
    """
    _waiting[req] = callback
    lib.fuse_req_interrupt_func(req, _interrupted, None)


def forget_interrupt(req: Request, callback: Callable[[], object]) -> None:
    """The request was answered. Its address may stand for another one by now, which keeps its own callback."""
    if _waiting.get(req) == callback:
        del _waiting[req]


@INTERRUPT  # type: ignore[untyped-decorator]
def _interrupted(req: int, _data: object) -> None:
    callback = _waiting.pop(req, None)
    if callback is not None:
        callback()
