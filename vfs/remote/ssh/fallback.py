"""Paramiko, and the system's ssh where paramiko does not get in and ssh does.

Threads: as for the dialers; `_chosen` is set once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from vfs.base import errors
from vfs.base.errors import ConnectError
from vfs.base.option_values import TransportName
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import Dialer, Sink, Transport

log = logging.getLogger(__name__)


_NO_BETTER = (
    errors.HostKeyUnknown,
    errors.HostKeyChanged,
    errors.HostKeyRevoked,
    errors.Refused,
    errors.NoAnswer,
    errors.NoThread,
)


def _ssh_may_do(error: ConnectError, *, asked: bool) -> bool:
    """Whether the system's ssh may get in where paramiko ended with `error`.

    ssh would fail in the same way for a host key that is not trusted, a passphrase that the person does not know, and a
    port that does not answer.
    """
    if isinstance(error, errors.PassphraseNeeded) and asked:
        return False
    return not isinstance(error, _NO_BETTER) and shutil.which("ssh") is not None


class FallbackDialer:
    """A `Dialer`: paramiko, and where that fails, the system's ssh. Whichever logs in first is used from then on."""

    def __init__(self, first: Dialer, second: Dialer, *, asked: bool) -> None:
        """Paramiko's and the system's ssh, for the same server. `asked`: a person is there to ask."""
        self._first = first
        self._second = second
        self._asked = asked
        self._chosen: Dialer | None = None

    @property
    def window_limited(self) -> bool:
        return (self._chosen or self._first).window_limited

    @property
    def transport(self) -> TransportName:
        return (self._chosen or self._first).transport

    @property
    def login(self) -> str:
        return (self._chosen or self._first).login

    def destination(self, timeout: float) -> Destination:
        """As `Dialer.destination`."""
        return self._first.destination(timeout)

    def dial(self, timeout: float) -> Transport:
        """As `Dialer.dial`. If both fail, the error is paramiko's, unless paramiko could not even try (`NeedsOpenssh`)."""
        if self._chosen is not None:
            return self._chosen.dial(timeout)
        deadline = Deadline(timeout)
        try:
            stream = self._first.dial(timeout)
        except ConnectError as error:
            if deadline.passed or not _ssh_may_do(error, asked=self._asked):
                raise
            log.debug("paramiko: %s", error)
            try:
                return _SecondTry(self._second.dial(deadline.left), error, self._choose_second)
            except ConnectError as other:
                raise _told(error, other) from other
        self._chosen = self._chosen or self._first
        return stream

    def _choose_second(self, why: ConnectError) -> None:
        if self._chosen is None:
            self._chosen = self._second
            log.warning("the system's ssh makes the connections, since paramiko could not: %s", why)


def _told(first: ConnectError, second: ConnectError) -> ConnectError:
    return second if isinstance(first, errors.NeedsOpenssh) else first


class _SecondTry:
    """A `Transport` over the system's ssh, and the `Sink` of its first bytes: they show that ssh has logged in, and `got_in` is
    called."""

    def __init__(self, stream: Transport, why: ConnectError, got_in: Callable[[ConnectError], None]) -> None:
        self._stream = stream
        self._why = why
        self._got_in = got_in
        self.send = stream.send
        self.close = stream.close

    @property
    def error(self) -> ConnectError | None:
        error = self._stream.error
        return None if error is None else _told(self._why, error)

    def receive(self, sink: Sink, reader: LoopReader) -> None:
        def first(count: int) -> None:
            self._got_in(self._why)
            self.received = sink.received
            sink.received(count)

        self.get_buffers, self.feed, self.received = sink.get_buffers, sink.feed, first
        self._stream.receive(self, reader)
