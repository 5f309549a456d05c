"""Private key files before their use: whether a file is there, safe and encrypted, and which key it holds.

Sources: PROTOCOL.key of OpenSSH for the format; sshkey_perm_ok in OpenSSH's authfile.c for the permissions.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

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
    return KeyFile(path, text, encrypted, blob or _public_blob(text) or _public_half(path), problem)


def _look_inside(text: str) -> tuple[bool, bytes | None]:
    if _BEGIN not in text:
        # PEM: the header of RFC 1421, or PKCS #8 (RFC 5958), says that it is encrypted.
        return "Proc-Type: 4,ENCRYPTED" in text or "BEGIN ENCRYPTED PRIVATE KEY" in text, None
    body = text.split(_BEGIN, 1)[1].split(_END, 1)[0]
    try:
        data = base64.b64decode("".join(body.split()))
        if not data.startswith(_MAGIC):
            return False, None
        cipher, rest = _string(data[len(_MAGIC) :])
        _kdf, rest = _string(rest)
        _options, rest = _string(rest)
        blob, _rest = _string(rest[4:])
        _string(blob)  # its kind
    except (binascii.Error, ValueError):
        return False, None
    return cipher != b"none", blob


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A length-prefixed string of RFC 4251, section 5, and what follows it. Raises ValueError."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("cut short")
    return data[4 : 4 + length], data[4 + length :]


def _public(blob: bytes) -> HostKey:
    """The blob with the kind of key that it begins with."""
    return HostKey(_string(blob)[0].decode("ascii", "replace"), blob)


def _public_half(path: Path) -> bytes | None:
    """The blob in `KEY.pub`, if that file is there."""
    try:
        return _public_blob(Path(f"{path}.pub").read_text("ascii", "replace"))
    except OSError:
        return None


def _public_blob(text: str) -> bytes | None:
    """The blob in a public key file's line."""
    try:
        blob = base64.b64decode(text.split()[1], validate=True)
        _string(blob)
        return blob
    except (IndexError, ValueError):
        return None
