"""Requests in flight: who may answer each, and what a signal does to it.

A `Request` is a number that is never used twice, so that an answer that comes too late (after a deadline, an interrupt,
or the end of the mount) finds nothing, instead of the memory of another request. `claim` decides who answers, and may be
called from any thread: it is a single operation of a dict. The rest belongs to the session's thread.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from vfs.frontends.fuse.library import INTERRUPT, lib, waiting

log = logging.getLogger(__name__)

Request = int
"""Stands for one `fuse_req_t`."""

_numbers = itertools.count(1)
_addresses: dict[Request, int] = {}
_callbacks: dict[Request, Callable[[], object]] = {}


def begin(address: int) -> Request:
    """What stands for the `fuse_req_t` at `address` until it is claimed."""
    req = next(_numbers)
    _addresses[req] = address
    return req


def claim(req: Request) -> int:
    """The address of a request, for the one who answers it; 0 when it was answered already."""
    if _callbacks:
        _callbacks.pop(req, None)
    return _addresses.pop(req, 0)


def unanswered() -> list[Request]:
    """The requests that wait for an answer."""
    return list(_addresses)


def thread_of(req: Request) -> int:
    """The thread that waits for the answer; 0 for one of another container. Raises KeyError after the answer."""
    return int(lib.fuse_req_ctx(_addresses[req]).contents.pid)


def on_interrupt(req: Request, callback: Callable[[], object]) -> None:
    """Call `callback` when the process that waits for `req` is interrupted or killed before the answer.

    It is called on the session's thread, once, possibly before this function returns, and never after the answer. It may
    answer the request. To be called on the session's thread.
    """
    address = _addresses.get(req)
    if address is not None:
        _callbacks[req] = callback
        waiting.fuse_req_interrupt_func(address, _interrupted, req)


@INTERRUPT  # type: ignore[untyped-decorator]
def _interrupted(_address: int, req: int) -> None:
    callback = _callbacks.pop(req, None)
    if callback is None:
        return
    try:
        callback()
    except Exception:
        log.exception("an interrupt could not be handled")
