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

    `receive` and `send_now` are called on the event loop's thread, `send` and `close` on any other.
    """

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        """From now on, give everything that is received to `sink`, by way of `reader`. Does not wait."""
        ...

    def send_now(self, data: bytes) -> int:
        """Send what can be sent without waiting, of `AT_ONCE` bytes at most; how many bytes. Not while `send` is under way."""
        ...

    def send(self, data: bytes) -> None:
        """Block until all of `data` is sent or buffered. Raises OSError or EOFError on a dead stream."""
        ...

    def close(self) -> None:
        """Idempotent; may block for a second. `reader` is stopped before. A blocked `send` soon raises."""
        ...


class Sink(Protocol):
    """Takes the received bytes, on the event loop's thread."""

    def get_buffers(self) -> list[memoryview]:
        """Where to receive next, in order; valid until `received` or `feed` is called."""
        ...

    def received(self, count: int) -> None:
        """`count` bytes were put into the buffers."""
        ...

    def feed(self, data: Sequence[memoryview]) -> None:
        """Take these bytes, which were received elsewhere."""
        ...

    def over(self) -> None:
        """Nothing more comes. Called once or more."""
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
