"""What both dialers share: the hops to the server, and which host keys are trusted on each.

Threads: any; the sets and the dictionary are only added to.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh.destination import Destination, NewKey
from vfs.remote.ssh.hostkeys import HostKey, KnownHosts
from vfs.remote.ssh.prompts import Deadline, Prompts
from vfs.remote.ssh.ssh_config import resolve

log = logging.getLogger(__name__)

_MAX_JUMPS = 8


class SshDialer:
    """The half of a `Dialer` that does not depend on who speaks SSH."""

    def __init__(
        self,
        address: Address,
        known_hosts: Path,
        *,
        prompts: Prompts | None = None,
        accept_new: bool = False,
        replace: bool = False,
        ssh_config: Path | None = None,
    ) -> None:
        """`known_hosts` is our own file, `prompts` are shared by the dialers to one server, `ssh_config` stands in for
        `~/.ssh/config`; `accept_new` and `replace` are those of `KnownHosts.verify`."""
        self._address = address
        self._known_hosts = known_hosts
        self._accept_new = accept_new
        self._replace = replace
        self._ssh_config = ssh_config
        self._prompts = prompts or Prompts(None)
        self._known_by_files: dict[tuple[Path, ...], KnownHosts] = {}
        self._verified: set[str] = set()
        self._warned: set[str] = set()

    def destination(self, timeout: float) -> Destination:
        """As `Dialer.destination`."""
        return resolve(self._address, Deadline(timeout), self._ssh_config)

    def _route(self, deadline: Deadline, address: Address | None = None, depth: int = 0) -> list[Destination]:
        """The jump hosts in order, then the server. Raises `errors.ConnectError`."""
        destination = resolve(address or self._address, deadline, self._ssh_config)
        if depth > _MAX_JUMPS:
            raise errors.ConnectError(f"the jump hosts before {destination.host} form a loop")
        before: list[Destination] = []
        for jump in destination.jumps:
            before += (
                [resolve(jump, deadline, self._ssh_config)]
                if before
                else self._route(deadline, jump, depth + 1)
            )
        return [*before, destination]

    def _known(self, destination: Destination) -> KnownHosts:
        """One object for all connections, so that it remembers an accepted key that could not be written to the file."""
        others = destination.known_hosts
        return self._known_by_files.setdefault(others, KnownHosts(self._known_hosts, others))

    def _verify(self, destination: Destination, key: HostKey, deadline: Deadline) -> None:
        """Return if `key` may be trusted for the host; raises as `KnownHosts.verify`. Blocks while a person answers."""
        known, name = self._known(destination), destination.key_name
        accept_new = self._accept_new
        if destination.new_key is NewKey.ANY:
            known.refuse_revoked(name, key)
            self._warn(f"the {key.of(name)} is not checked, as the ssh configuration says")
            return
        if destination.new_key is NewKey.ACCEPT and not known.knows(name):
            accept_new = True
            self._warn(f"the {key.of(name)} is accepted without asking, as the ssh configuration says")
        with self._prompts.one_at_a_time(deadline):
            known.verify(
                name, key, prompter=self._prompts.person, accept_new=accept_new, replace=self._replace
            )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)
