"""Paramiko, and the system's ssh where paramiko does not get in and ssh does.

Threads: as for the dialers; `_chosen` is set once.
"""

from __future__ import annotations

import logging
import shutil

from vfs.base import errors
from vfs.base.errors import ConnectError
from vfs.base.option_values import TransportName
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import Dialer, Transport

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
            stream, chosen = self._first.dial(timeout), self._first
        except ConnectError as error:
            if deadline.passed or not _ssh_may_do(error, asked=self._asked):
                raise
            log.debug("paramiko: %s", error)
            try:
                stream, chosen = self._second.dial(deadline.left), self._second
            except ConnectError as other:
                raise (other if isinstance(error, errors.NeedsOpenssh) else error) from other
            if self._chosen is None:
                log.warning("the system's ssh makes the connections, since paramiko could not: %s", error)
        self._chosen = self._chosen or chosen
        return stream
