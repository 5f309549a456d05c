"""The seam between the SFTP engine and SSH: a byte stream, and who makes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vfs.base.option_values import TransportName
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.loop_reader import LoopReader

HELLO = b"\0\0\0\5\1\0\0\0\3"
"""SSH_FXP_INIT of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 4): until then no server says a word."""

AT_ONCE = 4096
"""Bytes for which the system's buffer of a socket has room whenever it has some."""


class Transport(Protocol):
    """One SFTP subsystem's byte stream: `HELLO` is sent, and the server's first byte is there, but not taken.

    `receive` is called by one thread, `send` by another, `close` by any.

    It may have a `send_now` as well, for the event loop's thread while no `send` is under way: it sends what can be sent without
    waiting, of `AT_ONCE` bytes at most, and says how many bytes.
    """

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """Give everything that is received to `sink`, until the end of the stream.

        Blocks. `sink` is called by this thread, by the transport's own, or, once `reader` has started, by that of the event loop;
        and not after this has returned. Raises what `sink` raises, and OSError or EOFError.
        """
        ...

    def send(self, data: bytes | memoryview) -> None:
        """Block until all of `data` is sent or buffered. Raises OSError or EOFError on a dead stream."""
        ...

    def close(self) -> None:
        """Idempotent; may block for a second. A blocked `receive` soon returns, a blocked `send` soon raises."""
        ...


class Sink(Protocol):
    """Takes the received bytes. Called by one thread at a time; an exception of it ends the stream."""

    def get_buffers(self) -> list[memoryview]:
        """Where to receive next, in order; valid until `received` or `feed` is called."""
        ...

    def received(self, count: int) -> None:
        """`count` bytes were put into the buffers."""
        ...

    def feed(self, data: Sequence[memoryview]) -> None:
        """Take these bytes, which were received elsewhere."""
        ...


class Prompter(Protocol):
    """Questions to a person on a terminal. None in its place: nobody can be asked."""

    def accept_host_key(
        self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None
    ) -> bool: ...
    def passphrase(self, key_file: str) -> str | None: ...


class Dialer(Protocol):
    """Makes SFTP streams to one server, each over a TCP connection of its own."""

    @property
    def window_limited(self) -> bool:
        """Whether a stream has a small fixed window (2 MiB with the system's ssh), so that a long link needs several."""
        ...

    @property
    def transport(self) -> TransportName:
        """Who speaks SSH: in the last connection, or in the next one before there was any."""
        ...

    @property
    def login(self) -> str:
        """How the last `dial` logged in, for people: "with …/id_ed25519 (ED25519 SHA256:…)"; empty if unknown."""
        ...

    def destination(self, timeout: float) -> Destination:
        """Where `dial` goes to. Blocks for `timeout` seconds at most; raises `errors.ConnectError`."""
        ...

    def dial(self, timeout: float) -> Transport:
        """Connect, verify the host key, authenticate, start the SFTP subsystem, and greet it; within `timeout` seconds.

        Blocking; called on a connector thread. Raises `errors.ConnectError`.
        """
        ...
