"""The keys that paramiko logs in with: their order, and how they are loaded.

Order: the key that worked last; the files that were named; the agent's keys; the default files. Files that need a passphrase
come after those that need none. A file whose key the agent holds is used through the agent. Source: ssh(1), `-i`, and
IdentitiesOnly in ssh_config(5).
"""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

import paramiko
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from paramiko.agent import AgentKey, AgentSSH

from vfs.base import errors
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.hostkeys import HostKey
from vfs.remote.ssh.keyfiles import KeyFile, read_key_file
from vfs.remote.ssh.prompts import Deadline, Prompts

log = logging.getLogger(__name__)

_TRIES = 3
"""How often a passphrase is asked for, as NumberOfPasswordPrompts of ssh_config(5)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key to try. `label` is for messages."""

    label: str
    key: paramiko.PKey


class HeldKey(AgentKey):
    """An agent's key. If the agent refuses to sign, an invalid signature is sent, and the server asks for the next key.

    paramiko itself would end the connection.
    """

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:  # type: ignore[override]
        try:
            return bytes(super().sign_ssh_data(data, algorithm))
        except (paramiko.SSHException, OSError) as e:
            log.info("the agent does not sign with %s: %s", _public(self), e)
            return b""


@contextmanager
def agent_keys(path: str | None, timeout: float) -> Iterator[dict[bytes, HeldKey]]:
    """The keys of the agent at the socket `path`, by their public halves; none without an agent. Used by one dialling thread."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        agent = AgentSSH()
        keys: dict[bytes, HeldKey] = {}
        if path is not None:
            try:
                connection.settimeout(timeout)
                connection.connect(path)
                agent._connect(connection)  # type: ignore[attr-defined]
                keys = {key.asbytes(): HeldKey(agent, key.blob, key.comment) for key in agent.get_keys()}
            except (OSError, paramiko.SSHException) as e:
                log.info("no ssh-agent at %s: %s", path, e)
        yield keys


class KeyRing:
    """A dialer's keys, for all its connections. Any thread: the dictionaries are only added to."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._worked: dict[str, bytes] = {}
        self._loaded: dict[str, paramiko.PKey] = {}
        """By the file's content."""

    def worked(self, target: Destination, candidate: Candidate) -> None:
        """Try this key first the next time."""
        self._worked[target.key_name] = candidate.key.asbytes()

    def candidates(
        self,
        target: Destination,
        held: Mapping[bytes, HeldKey],
        deadline: Deadline,
        problems: list[errors.ConnectError],
    ) -> Iterator[Candidate]:
        """The keys to try, each once; `held` are the agent's. A passphrase is asked for when its key's turn has come.

        Errors of single keys are added to `problems`.
        """
        found = map(read_key_file, target.key_files)
        files = [(file.blob, file) for file in found if file.there or target.keys_named]
        files.sort(key=lambda key: key[1].encrypted and key[0] not in held)
        rest = [(blob, None) for blob in held if not target.identities_only]
        keys = [*files, *rest] if target.keys_named else [*rest, *files]
        worked = self._worked.get(target.key_name, b"")
        tried: set[bytes] = set()
        for blob, file in sorted(keys, key=lambda key: key[0] != worked):
            if blob in tried:
                continue
            try:
                if blob is not None and blob in held:
                    key: paramiko.PKey = held[blob]
                    label = f"the agent's {held[blob].comment or 'key'}"
                else:
                    assert file is not None
                    key, label = self._load(file, deadline), str(file.path)
            except errors.ConnectError as e:
                problems.append(e)
                continue
            if key.asbytes() not in tried:
                tried.add(key.asbytes())
                yield Candidate(f"{label} ({_public(key)})", key)

    def _load(self, file: KeyFile, deadline: Deadline) -> paramiko.PKey:
        """Raises `errors.KeyFileUnusable` and `errors.PassphraseNeeded`."""
        if file.problem is not None:
            raise errors.KeyFileUnusable(file.problem)
        if file.text not in self._loaded:
            self._loaded[file.text] = (
                self._unlock(file, deadline) if file.encrypted else _paramiko_key(file, None)
            )
        return self._loaded[file.text]

    def _unlock(self, file: KeyFile, deadline: Deadline) -> paramiko.PKey:
        wrong = None
        for _ in range(_TRIES):
            passphrase = self._prompts.passphrase(deadline, str(file.path), wrong)
            if passphrase is None:
                raise errors.PassphraseNeeded(f"the key {file.path} is locked with a passphrase")
            try:
                return _paramiko_key(file, passphrase)
            except _WrongPassphraseError:
                wrong = passphrase
        raise errors.PassphraseNeeded(f"wrong passphrase for the key {file.path}")


class _WrongPassphraseError(errors.KeyFileUnusable):
    pass


def _paramiko_key(file: KeyFile, passphrase: str | None) -> paramiko.PKey:
    """The key in the file, of any format that OpenSSH reads."""
    data = file.text.encode("ascii", "replace")
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        private = load(data, passphrase.encode() if passphrase else None)
    except UnsupportedAlgorithm as e:
        raise errors.KeyFileUnusable(_not_for_us(file)) from e
    except (ValueError, TypeError, InvalidTag) as e:
        if file.encrypted:
            raise _WrongPassphraseError(f"that is not the passphrase of {file.path}") from e
        raise errors.KeyFileUnusable(f"the key file {file.path} is damaged: {e}") from e
    kind: type[paramiko.RSAKey] | type[paramiko.ECDSAKey] | type[paramiko.Ed25519Key]
    if isinstance(private, RSAPrivateKey):
        kind = paramiko.RSAKey
    elif isinstance(private, EllipticCurvePrivateKey):
        kind = paramiko.ECDSAKey
    elif isinstance(private, Ed25519PrivateKey):
        kind = paramiko.Ed25519Key
    else:
        raise errors.KeyFileUnusable(_not_for_us(file))
    # paramiko reads OpenSSH's format for every kind, PKCS #8 for none: so it is given the former.
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return kind.from_private_key(io.StringIO(plain.decode("ascii")))


def _not_for_us(file: KeyFile) -> str:
    return (
        f"the key {file.path} is of a kind that only ssh understands: use the agent, or `--transport openssh`"
    )


def _public(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.asbytes())
