"""Private key files before their use: whether a file is there, safe and encrypted, and which key it holds.

Sources: PROTOCOL.key of OpenSSH for the format; sshkey_perm_ok in OpenSSH's authfile.c for the permissions.
"""

from __future__ import annotations

import base64
import os
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paramiko import Message
from paramiko.pkey import PublicBlob

from vfs.remote.ssh.hostkeys import HostKey

_MAGIC = b"openssh-key-v1\0"
_BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----"
_END = "-----END OPENSSH PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it was read."""

    path: Path
    text: str = field(repr=False)
    """The file's content. Secret: never logged."""
    encrypted: bool
    blob: bytes | None
    """The public key (RFC 4253, section 6.6), where no passphrase is needed to know it."""
    problem: str | None = None
    """Why it must not be used, with the command that helps; else None."""
    there: bool = True

    @property
    def label(self) -> str:
        """The path, with the key where it is known."""
        return str(self.path) if self.blob is None else f"{self.path} ({_public(self.blob)})"


def read_key_file(path: Path) -> KeyFile:
    """Read the file; see `problem` for what is wrong with it. Raises no OSError."""
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            info = os.fstat(f.fileno())
            text = f.read(64 * 1024)
    except FileNotFoundError:
        return KeyFile(path, "", False, None, f"there is no key file {path}", there=False)
    except OSError as e:
        return KeyFile(path, "", False, None, f"the key file {path} cannot be read: {e.strerror}")
    problem = None
    if info.st_uid == os.getuid() and info.st_mode & 0o077:
        mode = stat.S_IMODE(info.st_mode)
        problem = (
            f"others can read the key file {path} (mode {mode:04o}): `chmod 600 {shlex.quote(str(path))}`"
        )
    elif "PRIVATE KEY-----" not in text:
        kind = "a public key" if text.startswith(("ssh-", "ecdsa-", "sk-")) else "no private key"
        problem = f"{path} is {kind}; name the private one with `-i`"
    encrypted, blob = _look_inside(text)
    return KeyFile(path, text, encrypted, blob or _public_half(path, text), problem)


def _look_inside(text: str) -> tuple[bool, bytes | None]:
    if _BEGIN not in text:
        # PEM: the header of RFC 1421, or PKCS #8 (RFC 5958), says that it is encrypted.
        return "Proc-Type: 4,ENCRYPTED" in text or "BEGIN ENCRYPTED PRIVATE KEY" in text, None
    body = text.split(_BEGIN, 1)[1].split(_END, 1)[0]
    try:
        data = base64.b64decode("".join(body.split()))
        if not data.startswith(_MAGIC):
            return False, None
        rest = Message(data[len(_MAGIC) :])
        cipher, _kdf, _options, _count = (
            rest.get_binary(),
            rest.get_binary(),
            rest.get_binary(),
            rest.get_int(),
        )
        blob = rest.get_binary()
        _public(blob)
    except ValueError:
        return False, None
    return cipher != b"none", blob


def _public(blob: bytes) -> HostKey:
    """The blob with the kind of key that it begins with. Raises ValueError."""
    return HostKey(Message(blob).get_text(), blob)


def _public_half(path: Path, text: str) -> bytes | None:
    """The blob in `text` if that is a public key, else in `KEY.pub` if that file is there."""
    with suppress(ValueError):
        return PublicBlob.from_string(text).key_blob
    with suppress(OSError, ValueError):
        return PublicBlob.from_file(f"{path}.pub").key_blob
    return None
