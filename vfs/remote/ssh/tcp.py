"""From a host's name and port to a TCP connection.

Threads: any. getaddrinfo(3) cannot be cut short, so it runs on a thread of its own.
"""

from __future__ import annotations

import errno
import socket

from vfs.base import errors
from vfs.base.timeouts import within
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.prompts import Deadline

_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ETIMEDOUT)

AddressInfo = tuple[
    socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...] | tuple[int, bytes]
]
"""One of the answers of getaddrinfo(3)."""


def connect(destination: Destination, deadline: Deadline) -> socket.socket:
    """A TCP connection to the first of the host's addresses that answers.

    Raises `errors.UnknownHost`, `errors.Refused`, `errors.NoAnswer`, and `errors.ConnectError` for the rest.
    """
    found = look_up(destination, deadline)
    where = destination.place
    failure: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(found):
        seconds = deadline.need(where) / (len(found) - number)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
        except OSError as e:
            sock.close()
            if not isinstance(failure, ConnectionRefusedError):
                failure = e
    if isinstance(failure, ConnectionRefusedError):
        raise errors.Refused(f"{where} refuses the connection") from failure
    if failure is None or isinstance(failure, TimeoutError) or failure.errno in _UNREACHABLE:
        why = "no answer in time" if failure is None or failure.strerror is None else failure.strerror.lower()
        raise errors.NoAnswer(f"{where}: {why}") from failure
    raise errors.ConnectError(f"{where}: {failure.strerror}") from failure


def look_up(destination: Destination, deadline: Deadline) -> list[AddressInfo]:
    """The host's addresses, the preferred one first. Raises `errors.UnknownHost`."""
    host = destination.host

    def ask() -> list[AddressInfo]:
        return list(
            socket.getaddrinfo(host, destination.port, family=destination.family, type=socket.SOCK_STREAM)
        )

    try:
        return within(deadline.need(destination.place), ask, name=f"look-up of {host}")
    except TimeoutError:
        raise errors.UnknownHost(f"{host!r} was not resolved in time") from None
    except (OSError, UnicodeError) as e:
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise errors.UnknownHost(f"{host!r}: {why}") from e
