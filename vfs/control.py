"""The control socket of a live mount, and the register of live mounts.

One line of JSON asks (`{"verb": "status", "args": {}}`), lines of JSON answer: any number of `{"item": …}` and at the
end `{"ok": true, "result": …}` or `{"error": {"class": …, "text": …}}`. The socket (0600) lies in a directory of the
user's own (0700) and serves that user, and root, only. Beside it a record says whose it is.

The serving half runs on the event loop's thread; the asking half is blocking and may be used from any thread. A file
lock on the directory keeps a sweep of stale records and the start of a mount apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import inspect
import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vfs import config, errors
from vfs.errors import ArtisyncError, CannotControl, MountSilent, NotMounted, UsageError

log = logging.getLogger(__name__)

Json = dict[str, Any]
Verb = Callable[[Json], Awaitable[Json] | AsyncIterator[Json]]
"""Given the arguments, a coroutine's dict is the answer; an async generator's dicts are streamed to the caller."""

_LINE_LIMIT = 1 << 20
_REQUEST_SECONDS = 10.0
_SUN_PATH = 100
"""Bytes of a socket's path that fit everywhere (Linux: 108 with the NUL, unix(7))."""


# --- places -------------------------------------------------------------------------------------------------------


def directories() -> list[Path]:
    """Where sockets may be, the preferred place first: a login has a runtime directory, a cron job has none."""
    candidates = []
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    with contextlib.suppress(OSError):
        # after `su` the variable may still name another user's
        if os.stat(runtime).st_uid == os.getuid() and os.access(runtime, os.W_OK | os.X_OK):
            candidates.append(Path(runtime) / "artisync")
    return [*candidates, config.state_dir() / "run"]


def key(mountpoint: Path) -> str:
    """Names what belongs to one mount point (an absolute path without symbolic links)."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def socket_path(mountpoint: Path) -> Path:
    """Where a new mount of this place would listen; the directory may not exist yet."""
    return directories()[0] / f"{key(mountpoint)}.sock"


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        st = directory.stat()
        if st.st_uid != os.getuid():
            raise CannotControl(f"{directory} belongs to another user")
        if st.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as e:
        raise CannotControl(f"cannot use {directory} for the control socket: {e.strerror}") from e


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the socket that fits into `sun_path`, valid inside the block."""
    if len(os.fsencode(path)) <= _SUN_PATH or sys.platform != "linux":
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


# --- serving ------------------------------------------------------------------------------------------------------


class Server:
    """A listening control socket; `aclose()` ends it. Event loop only."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self.path = path
        self._verbs = verbs
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._files: dict[Path, int] = {}

    def __repr__(self) -> str:
        return f"<Server {self.path} {'listening' if self._server else 'closed'}, {len(self._tasks)} calls>"

    async def _start(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            with _short(self.path) as name:
                sock.bind(name)
            # nobody else can have reached it: the directory is 0700
            self.path.chmod(0o600)
            self._files[self.path] = _inode(self.path)
            self._server = await asyncio.start_unix_server(self._accepted, sock=sock, limit=_LINE_LIMIT)
        except BaseException:
            sock.close()
            raise

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted while it was being closed
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _allowed(writer.get_extra_info("socket")):
                return
            line = await asyncio.wait_for(reader.readline(), _REQUEST_SECONDS)
            answer = asyncio.ensure_future(self._answer(line, writer))
            # a caller that hangs up (Ctrl-C) ends what it asked for
            hangup = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({answer, hangup}, return_when=asyncio.FIRST_COMPLETED)
                if answer.done() and not answer.cancelled():
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
            raise UsageError("the control socket was asked something that is no request") from e
        if not isinstance(args, dict) or not isinstance(name, str) or name not in self._verbs:
            raise UsageError(f"this mount does not know {name!r}; was artisync updated since it was mounted?")
        return self._verbs[name], args

    async def aclose(self) -> None:
        """Stop listening, end calls under way, and remove the socket and the record if they are still ours."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError), _locked(self.path.parent):
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
    return {"error": {"class": "ArtisyncError", "text": f"the mount could not do it: {error!r}"}}


async def _write(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def serve(path: Path, verbs: Mapping[str, Verb]) -> Server:
    """Listen at `path`, replacing what is there. Raises `errors.CannotControl`."""
    _prepare(path.parent)
    server = Server(path, verbs)
    try:
        with _locked(path.parent):
            await server._start()
    except OSError as e:
        raise CannotControl(f"cannot listen at {path}: {e.strerror}") from e
    return server


async def announce(mountpoint: Path, verbs: Mapping[str, Verb], *, profile: str | None) -> Server:
    """Serve the verbs of a mount and enter it in the register, under this process's id.

    `mountpoint` is absolute and without symbolic links. Raises `errors.CannotControl`.
    """
    server = await serve(socket_path(mountpoint), verbs)
    record = {"mountpoint": str(mountpoint), "pid": os.getpid(), "profile": profile, "started": time.time()}
    path = server.path.with_suffix(".json")
    try:
        config.write_atomically(path, json.dumps(record))
    except OSError as e:
        await server.aclose()
        raise CannotControl(f"cannot write {path}: {e.strerror}") from e
    server._files[path] = _inode(path)
    return server


# --- the register -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A live mount. `started` is Unix time in seconds."""

    mountpoint: Path
    pid: int
    profile: str | None
    started: float
    socket: Path


def mounts() -> list[MountRecord]:
    """All live mounts of this user, by mount point. Records of dead ones are removed on the way."""
    found: dict[Path, MountRecord] = {}
    for directory in directories():
        try:
            names = sorted(
                p for p in directory.iterdir() if p.suffix == ".json" and not p.name.startswith(".")
            )
        except OSError:
            continue
        for path in names:
            record = _read_record(path)
            if record is not None and _listening(record):
                found.setdefault(record.mountpoint, record)
            else:
                _sweep(path)
    return [found[mountpoint] for mountpoint in sorted(found)]


def find(mountpoint: Path) -> MountRecord | None:
    """The live mount of this place (absolute, without symbolic links), or None."""
    return next((record for record in mounts() if record.mountpoint == mountpoint), None)


def mount_of(settings: config.Settings) -> MountRecord | None:
    """A live mount of the same profile, root and cache, or None; one that does not answer is none."""
    for record in mounts():
        if settings.profile_name is None or record.profile != settings.profile_name:
            continue
        try:
            status = call(record.socket, "status", timeout=5.0)
        except ArtisyncError:
            continue
        directory = status.get("cache", {}).get("directory")
        if (status.get("root"), directory) == (settings.remote_root, str(settings.cache_dir)):
            return record
    return None


def _read_record(path: Path) -> MountRecord | None:
    try:
        data = json.loads(path.read_bytes())
        profile = data["profile"]
        return MountRecord(
            mountpoint=Path(data["mountpoint"]),
            pid=int(data["pid"]),
            profile=None if profile is None else str(profile),
            started=float(data["started"]),
            socket=path.with_suffix(".sock"),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _listening(record: MountRecord) -> bool:
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        _connect(record.socket, timeout=1.0).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # it is there and too busy to take the call
    return True


def _sweep(path: Path) -> None:
    """Remove a stale record and its socket, unless a new mount has taken the place meanwhile."""
    with contextlib.suppress(OSError), _locked(path.parent):
        record = _read_record(path)
        if record is not None and _listening(record):
            return
        log.info("control: removing the stale record %s", path)
        path.unlink(missing_ok=True)
        path.with_suffix(".sock").unlink(missing_ok=True)


# --- asking -------------------------------------------------------------------------------------------------------


def _connect(path: Path, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _short(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _lines(path: Path, verb: str, args: Json, timeout: float, silence: float | None) -> Iterator[Json]:
    """The answer's lines; `timeout` bounds the first, `silence` each further one (seconds; None: no limit)."""
    try:
        with _connect(path, timeout) as sock, sock.makefile("rb") as answer:
            sock.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
            while line := answer.readline():
                yield json.loads(line)
                sock.settimeout(silence)
    except (FileNotFoundError, ConnectionRefusedError) as e:
        raise NotMounted("there is no live mount behind that control socket") from e
    except TimeoutError as e:
        raise MountSilent(f"the mount's process has not answered for {timeout:g} s") from e
    except (OSError, ValueError) as e:
        raise MountSilent(f"the mount's process broke off its answer: {e}") from e
    raise MountSilent("the mount's process hung up without an answer")


def stream(
    path: Path, verb: str, *, timeout: float = 10.0, silence: float | None = None, **args: Any
) -> Iterator[Json]:
    """What an async generator behind `verb` yields, as it comes. Closing the iterator ends the work over there.

    Raises what the verb raised, `errors.NotMounted` without a mount, and `errors.MountSilent`.
    """
    for message in _lines(path, verb, args, timeout, silence):
        if "item" in message:
            yield message["item"]
        elif "ok" in message:
            return
        else:
            raise _error(message)


def call(path: Path, verb: str, *, timeout: float = 10.0, **args: Any) -> Json:
    """What the coroutine behind `verb` returns. Raises as `stream` does; `timeout` in seconds."""
    for message in _lines(path, verb, args, timeout, timeout):
        if "ok" in message:
            result: Json = message.get("result", {})
            return result
        if "error" in message:
            raise _error(message)
    raise AssertionError("unreachable: _lines ends with an error")


def _error(message: Json) -> ArtisyncError:
    described = message.get("error")
    if not isinstance(described, dict):
        return MountSilent("the mount's process answered something that is no answer")
    kind = getattr(errors, str(described.get("class")), ArtisyncError)
    if not (isinstance(kind, type) and issubclass(kind, ArtisyncError)):
        kind = ArtisyncError
    return kind(str(described.get("text")))
