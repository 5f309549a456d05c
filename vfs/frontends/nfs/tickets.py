"""Access to the export: file handles that cannot be forged, and a secret that is good for one mount.

A loopback port is open to every user of the machine. A handle holds the number of a node, which is one version lineage
of a file, and a MAC of it under a key of this process. The first handle, the root's, is given for a secret in the
export's path, once, within seconds: what `ps`, `mount` and /proc/mounts show of it afterwards opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct

from vfs.base.loop_time import loop_time
from vfs.base.mount_table import PREFIX

MAC_BYTES = 16
HANDLE_BYTES = 8 + MAC_BYTES
_ID = struct.Struct(">Q")


class FileHandles:
    """Makes and checks file handles. The key lives as long as the object."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, node: int) -> bytes:
        """The handle of the node of this number."""
        number = _ID.pack(node)
        return number + self._mac(number)

    def node(self, handle: bytes) -> int | None:
        """The number in a handle that was given by `of`, else None."""
        if len(handle) != HANDLE_BYTES or not hmac.compare_digest(self._mac(handle[:8]), handle[8:]):
            return None
        number: int = _ID.unpack_from(handle)[0]
        return number

    def _mac(self, number: bytes) -> bytes:
        return hashlib.blake2b(number, digest_size=MAC_BYTES, key=self._key).digest()


class Tickets:
    """Paths of the export, each good for one MNT within seconds."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        self.used = 0
        """Paths that were used."""

    def issue(self, port: int, seconds: float) -> str:
        """A new path, valid for `seconds`. The port in it shows in the list of mounts which server a mount has."""
        path = f"{PREFIX}{port}/{secrets.token_hex(16)}"
        self._until[path.encode()] = loop_time() + seconds
        return path

    def use(self, path: bytes) -> bool:
        """Whether the path is valid; it is not valid a second time."""
        now = loop_time()
        self._until = {known: until for known, until in self._until.items() if until > now}
        found = [known for known in self._until if hmac.compare_digest(known, path.rstrip(b"/"))]
        for known in found:
            del self._until[known]
        self.used += len(found)
        return bool(found)
