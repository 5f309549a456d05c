"""Where an address leads, once the user's ssh configuration has been asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an address leads on this machine, with what the user's ssh configuration says of it."""

    host: str
    port: int
    user: str
    key_name: str
    """The name under which its host key is kept."""
    known_hosts: tuple[Path, ...]
    """The user's and the system's files."""
    by_way_of: str | None
    """What makes the connection if it is not ours to make: "the jump host gate", "a ProxyCommand"."""

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return place(self.host, self.port)


def place(host: str, port: int) -> str:
    """`host:port`, for messages."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
