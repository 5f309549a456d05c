"""The control socket of a live mount: the asking half. Blocking; may be used from any thread."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vfs.base import errors
from vfs.base.errors import ArtisyncError, MountSilent, NotMounted
from vfs.control import Json, sockets


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to the socket at `path`, within `timeout` seconds. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with sockets.short(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _lines(path: Path, verb: str, args: Json, timeout: float, silence: float | None) -> Iterator[Json]:
    """The lines of the answer, up to the last: the first within `timeout` seconds, each further one within `silence` (None:
    no limit). Raises as `stream`."""
    try:
        with connect(path, timeout) as sock, sock.makefile("rb") as answer:
            sock.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
            while line := answer.readline():
                message = json.loads(line)
                if not ("item" in message or "ok" in message):
                    raise _error(message)
                if "bytes" in message:
                    message["item"]["data"] = answer.read(message["bytes"])
                yield message
                if "ok" in message:
                    return
                sock.settimeout(silence)
    except (FileNotFoundError, ConnectionRefusedError) as e:
        raise NotMounted("there is no live mount behind that control socket") from e
    except TimeoutError as e:
        raise MountSilent(f"the mount's process has not answered for {round(timeout, 1):g} s") from e
    except (OSError, ValueError) as e:
        raise MountSilent(f"the mount's process broke off its answer: {e}") from e
    raise MountSilent("the mount's process hung up without an answer")


def stream(
    path: Path, verb: str, *, timeout: float = 10.0, silence: float | None = None, **args: Any
) -> Iterator[Json]:
    """The items of the async generator behind `verb`, each as soon as it is yielded. Closing the iterator ends the generator.

    Raises what the verb raised, `errors.NotMounted` without a mount, and `errors.MountSilent`.
    """
    for message in _lines(path, verb, args, timeout, silence):
        if "item" in message:
            yield message["item"]
        elif message.get("result"):
            raise _another_version()


def call(path: Path, verb: str, *, timeout: float = 10.0, **args: Any) -> Json:
    """What the coroutine behind `verb` returns. Raises as `stream` does; `timeout` in seconds."""
    *items, last = _lines(path, verb, args, timeout, timeout)
    if items:
        raise _another_version()
    result: Json = last.get("result", {})
    return result


def _another_version() -> MountSilent:
    return MountSilent("the mount was begun by another version of artisync; mount it again")


def _error(message: Json) -> ArtisyncError:
    described = message.get("error")
    if not isinstance(described, dict):
        return MountSilent("the mount's process sent an invalid answer")
    kind = getattr(errors, str(described.get("class")), ArtisyncError)
    if not (isinstance(kind, type) and issubclass(kind, ArtisyncError)):
        kind = ArtisyncError
    return kind(str(described.get("text")))
