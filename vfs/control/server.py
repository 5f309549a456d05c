"""The control socket of a live mount: the serving half.

Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

from vfs.base import paths
from vfs.base.errors import ArtisyncError, CannotControl, UsageError
from vfs.base.tasks import Tasks
from vfs.control import Json, register, sockets

log = logging.getLogger(__name__)

Verb = Callable[[Json], Awaitable[Json] | AsyncIterator[Json]]
"""Given the arguments, a coroutine's dict is the answer; an async generator's dicts are streamed to the caller."""

_LINE_LIMIT = 1 << 20
_REQUEST_SECONDS = 10.0
_UNSENT = 16 << 10
"""Bytes that may wait to be sent before a verb waits. Python 3.12 counts all pieces that wait at each further one."""


class ControlServer:
    """A listening control socket; `aclose()` ends it. Event loop only."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self.path = path
        self._verbs = verbs
        self._server: asyncio.Server | None = None
        self._tasks = Tasks()
        self._files: dict[Path, int] = {}

    def own(self, path: Path) -> None:
        """Remove this file at the end, if it is still the same file."""
        self._files[path] = _inode(path)

    async def _start(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            with sockets.short(self.path) as name:
                sock.bind(name)
            # no other user can have reached it: the directory is 0700
            self.path.chmod(0o600)
            self.own(self.path)
            self._server = await asyncio.start_unix_server(self._accepted, sock=sock, limit=_LINE_LIMIT)
        except BaseException:
            sock.close()
            raise

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted while it was being closed
            writer.close()
            return
        self._tasks.spawn(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _allowed(writer.get_extra_info("socket")):
                return
            writer.transport.set_write_buffer_limits(high=_UNSENT)
            line = await asyncio.wait_for(reader.readline(), _REQUEST_SECONDS)
            answer = asyncio.ensure_future(self._answer(line, writer))
            # a caller that hangs up (Ctrl-C) ends what it asked for
            hangup = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({answer, hangup}, return_when=asyncio.FIRST_COMPLETED)
                if answer.done() and not answer.cancelled() and not writer.is_closing():
                    await _write(writer, _outcome(answer))
            finally:
                answer.cancel()
                hangup.cancel()
                await asyncio.gather(answer, hangup, return_exceptions=True)
        except (OSError, ValueError, TimeoutError) as e:
            log.debug("control: a caller was dropped: %r", e)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> Json:
        verb, args = self._parse(line)
        outcome = verb(args)
        if inspect.isawaitable(outcome):
            return await outcome
        async with contextlib.aclosing(cast("AsyncGenerator[Json]", outcome)) as items:
            async for item in items:
                await _write(writer, {"item": item})
        return {}

    def _parse(self, line: bytes) -> tuple[Verb, Json]:
        try:
            request = json.loads(line)
            name, args = request["verb"], request.get("args", {})
        except (ValueError, LookupError, TypeError, AttributeError) as e:
            raise UsageError("the control socket got an invalid request") from e
        if not isinstance(args, dict) or not isinstance(name, str) or name not in self._verbs:
            raise UsageError(f"this mount does not know {name!r}; was artisync updated since it was mounted?")
        return self._verbs[name], args

    async def aclose(self) -> None:
        """Stop listening, end calls under way, and remove the socket and the record if they are still ours."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await self._tasks.aclose()
        with contextlib.suppress(OSError, CannotControl):
            async with sockets.lock(self.path.parent):
                for path, inode in self._files.items():
                    if _inode(path) == inode:
                        path.unlink()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _allowed(sock: socket.socket) -> bool:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    # struct ucred: pid, uid, gid (unix(7))
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if uid in (os.getuid(), 0):
        return True
    log.warning("control: refused a call from user %d", uid)
    return False


def _outcome(answer: asyncio.Future[Json]) -> Json:
    """The last line of an answer: what the verb returned or raised."""
    error = answer.exception()
    if error is None:
        return {"ok": True, "result": answer.result()}
    if isinstance(error, ArtisyncError):
        return {"error": {"class": type(error).__name__, "text": str(error)}}
    log.error("control: a verb failed", exc_info=error)
    return {"error": {"class": "ArtisyncError", "text": f"the mount failed: {error!r}"}}


async def _write(writer: asyncio.StreamWriter, message: Json) -> None:
    data = message.get("item", {}).pop("data", b"")
    if data:
        message["bytes"] = len(data)
    if writer.is_closing():  # `drain` tells only in a later step of the loop
        raise ConnectionResetError("the caller hung up")
    writer.write(json.dumps(message).encode() + b"\n")
    writer.write(data)
    await writer.drain()


async def announce(
    mountpoint: Path, verbs: Mapping[str, Verb], *, profile: str | None, device: str = ""
) -> ControlServer:
    """Serve the verbs of a mount and enter it in the register, under this process's id.

    `mountpoint` is absolute and without symbolic links; `device`: its number, by which it is found again. Raises `errors.CannotControl`.
    """
    path = sockets.socket_path(mountpoint)
    while (other := register.read(path.with_suffix(".json"))) and other.mountpoint != mountpoint:
        path = path.with_stem(f"{path.stem}+")  # that mount was moved with a directory above it
    sockets.prepare(path.parent)
    server = ControlServer(path, verbs)
    try:
        async with sockets.lock(path.parent):
            await server._start()
    except OSError as e:
        raise CannotControl(f"cannot listen at {path}: {e.strerror}") from e
    record = {
        "mountpoint": str(mountpoint),
        "device": device,
        "pid": os.getpid(),
        "profile": profile,
    }
    entry = path.with_suffix(".json")
    try:
        paths.write_atomically(entry, json.dumps(record))
    except OSError as e:
        await server.aclose()
        raise CannotControl(f"cannot write {entry}: {e.strerror}") from e
    server.own(entry)
    return server
