"""The seam between the SFTP engine and SSH: a blocking byte stream, and who makes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from vfs.base.errors import ConnectError
from vfs.remote.ssh.destination import Destination


class Transport(Protocol):
    """One SFTP subsystem's byte stream. `recv_into` is called by one thread, `send` by another, `close` by any."""

    @property
    def error(self) -> ConnectError | None:
        """Why the stream ended before the server's first byte, where `dial` could not know it yet. Else None."""
        ...

    def recv_into(self, views: Sequence[memoryview]) -> int:
        """Block until bytes are there; how many were put into `views`, in turn. 0 at end of stream or error."""
        ...

    def send(self, data: bytes | memoryview) -> None:
        """Block until all of `data` is accepted. Raises OSError or EOFError on a dead stream."""
        ...

    def close(self) -> None:
        """Idempotent; makes a blocked `recv_into` return 0 and a blocked `send` raise, soon."""
        ...


def receive(
    transport: Transport, into: Callable[[], list[memoryview]], received: Callable[[int], None]
) -> None:
    """Put what comes into the buffers that `into` gives, and tell `received` how much, until the end of the stream.

    Blocks. Both are called by one thread, this one or the transport's own, and by none once this has returned. Raises
    what `received` raises, and OSError or EOFError.
    """
    own = getattr(transport, "receive", None)
    if own is not None:
        own(into, received)
        return
    while count := transport.recv_into(into()):
        received(count)


class Prompter(Protocol):
    """Questions to a person on a terminal; None stands for "there is nobody to ask"."""

    def accept_host_key(
        self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None
    ) -> bool: ...
    def passphrase(self, key_file: str) -> str | None: ...


class Dialer(Protocol):
    """Makes SFTP streams to one server; each call is a TCP connection of its own."""

    @property
    def window_limited(self) -> bool:
        """True where one stream is bound by a fixed window (2 MiB of the system's ssh), so that long links need more."""
        ...

    @property
    def login(self) -> str:
        """How the latest `dial` logged in, for people: "with …/id_ed25519 (ED25519 SHA256:…)". Empty if not known."""
        ...

    def destination(self, timeout: float) -> Destination:
        """Where `dial` goes to. Blocks for `timeout` seconds at most; raises `errors.ConnectError`."""
        ...

    def dial(self, timeout: float) -> Transport:
        """Connect, verify the host key, authenticate, start the SFTP subsystem; within `timeout` seconds.

        Blocking; called on a connector thread. Raises `errors.ConnectError`.
        """
        ...
