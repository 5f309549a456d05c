"""A host to log in to, with all that the user's ssh configuration says of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from vfs.base.address import Address


class NewKey(Enum):
    """What StrictHostKeyChecking allows for a host key that no file holds."""

    ASK = "a person decides"
    ACCEPT = "it is accepted; a changed one is not"
    ANY = "any key is accepted, and none is kept: UserKnownHostsFile is /dev/null as well"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where an address leads on this machine. Tokens (`%h`), variables and `~` are expanded."""

    address: Address
    """What was looked up."""
    host: str
    port: int
    user: str
    family: socket.AddressFamily
    """Of AddressFamily; AF_UNSPEC: any."""
    key_name: str
    """The name under which its host key is kept."""
    known_hosts: tuple[Path, ...]
    """The user's and the system's files."""
    new_key: NewKey
    key_files: tuple[Path, ...]
    """Private keys in the order in which they are tried."""
    keys_named: bool
    """Whether `key_files` were named, rather than being ssh's defaults."""
    identities_only: bool
    agent: str | None
    """Path of the agent's socket; None: no agent."""
    jumps: tuple[Address, ...]
    """Hosts to pass on the way, in order."""
    proxy_command: str | None
    """For a shell."""
    ciphers: tuple[str, ...]
    """Those allowed, by preference; none where that is not known."""
    detaching: tuple[str, ...]
    """Keywords that take `ssh` away from its stdin, and are set. An `ssh` before 8.7 knows none of them."""
    only_ssh: str | None
    """A setting that only the system's ssh can obey, for messages; None if paramiko obeys all."""

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return place(self.host, self.port)

    @property
    def by_way_of(self) -> str | None:
        """What makes the connection if it is not ours to make: "the jump host gate", "a ProxyCommand"."""
        if self.jumps:
            return f"the jump host {self.jumps[-1].host}"
        return "a ProxyCommand" if self.proxy_command else None


def place(host: str, port: int) -> str:
    """`host:port`, for messages."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
