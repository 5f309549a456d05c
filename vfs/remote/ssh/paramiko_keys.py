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
from itertools import chain

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


@contextmanager
def agent_keys(path: str | None, timeout: float) -> Iterator[dict[bytes, AgentKey]]:
    """The keys of the agent at the socket `path`, by their public halves; none without an agent. Used by one dialling thread."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        agent = AgentSSH()
        keys: dict[bytes, AgentKey] = {}
        if path is not None:
            try:
                connection.settimeout(timeout)
                connection.connect(path)
                agent._connect(connection)  # type: ignore[attr-defined]
                keys = {key.asbytes(): key for key in agent.get_keys()}
            except (OSError, paramiko.SSHException) as e:
                log.info("no ssh-agent at %s: %s", path, e)
        yield keys


class _AgentSigner(paramiko.PKey):
    """An agent's key. If the agent refuses to sign, an invalid signature is sent, and the server asks for the next key.

    paramiko itself would end the connection.
    """

    def __init__(self, key: AgentKey) -> None:
        self._inner = key

    def asbytes(self) -> bytes:
        return self._inner.asbytes()

    def get_name(self) -> str:
        return self._inner.get_name()

    @property
    def _fields(self) -> list[object]:
        return [self.asbytes()]

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:  # type: ignore[override]
        try:
            return bytes(self._inner.sign_ssh_data(data, algorithm))
        except (paramiko.SSHException, OSError) as e:
            log.info("the agent does not sign with %s: %s", _public(self), e)
            return b""


class KeyRing:
    """A dialer's keys, for all its connections. Any thread: the dictionaries are only added to."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._worked: dict[str, bytes] = {}
        self._loaded: dict[str, tuple[str, paramiko.PKey]] = {}

    def worked(self, target: Destination, candidate: Candidate) -> None:
        """Try this key first the next time."""
        self._worked[target.key_name] = candidate.key.asbytes()

    def candidates(
        self,
        target: Destination,
        held: Mapping[bytes, AgentKey],
        deadline: Deadline,
        problems: list[errors.ConnectError],
    ) -> Iterator[Candidate]:
        """The keys to try, each once; `held` are the agent's. A passphrase is asked for when its key's turn has come.

        Errors of single keys are added to `problems`.
        """
        files = [read_key_file(path) for path in target.key_files]
        named = files if target.keys_named else []
        default = [f for f in files if f.there and not target.keys_named]
        rest = {} if target.identities_only else held
        worked = self._worked.get(target.key_name)
        tried: set[bytes] = set()
        for candidate in chain(
            self._at_hand([f for f in (*named, *default) if f.blob == worked], held, []),
            (_of_agent(key) for blob, key in rest.items() if blob == worked),
            self._at_hand(named, held, problems),
            self._locked(named, tried, deadline, problems),
            map(_of_agent, rest.values()),
            self._at_hand(default, held, problems),
            self._locked(default, tried, deadline, problems),
        ):
            if candidate.key.asbytes() not in tried:
                tried.add(candidate.key.asbytes())
                yield candidate

    def _at_hand(
        self, files: list[KeyFile], held: Mapping[bytes, AgentKey], problems: list[errors.ConnectError]
    ) -> Iterator[Candidate]:
        """Keys of the files that can be used without asking for a passphrase."""
        for file in files:
            known = self._loaded.get(str(file.path))
            if file.blob is not None and file.blob in held:
                yield _of_agent(held[file.blob])
            elif file.problem is not None:
                problems.append(errors.KeyFileUnusable(file.problem))
            elif known is not None and known[0] == file.text:
                yield _of_file(file, known[1])
            elif not file.encrypted:
                try:
                    yield _of_file(file, self._load(file, None))
                except errors.ConnectError as e:
                    problems.append(e)

    def _locked(
        self, files: list[KeyFile], tried: set[bytes], deadline: Deadline, problems: list[errors.ConnectError]
    ) -> Iterator[Candidate]:
        """Keys of the files that need a passphrase; nobody is asked for that of a key in `tried`."""
        for file in files:
            if file.problem is not None or not file.encrypted or file.blob in tried:
                continue
            try:
                yield _of_file(file, self._unlock(file, deadline))
            except errors.ConnectError as e:
                problems.append(e)

    def _unlock(self, file: KeyFile, deadline: Deadline) -> paramiko.PKey:
        wrong = None
        for _ in range(_TRIES):
            passphrase = self._prompts.passphrase(deadline, str(file.path), wrong)
            if passphrase is None:
                raise errors.PassphraseNeeded(f"the key {file.path} is locked with a passphrase")
            try:
                return self._load(file, passphrase)
            except _WrongPassphraseError:
                wrong = passphrase
        raise errors.PassphraseNeeded(f"wrong passphrase for the key {file.path}")

    def _load(self, file: KeyFile, passphrase: str | None) -> paramiko.PKey:
        key = _paramiko_key(file, passphrase)
        self._loaded[str(file.path)] = (file.text, key)
        return key


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


def _of_file(file: KeyFile, key: paramiko.PKey) -> Candidate:
    return Candidate(f"{file.path} ({_public(key)})", key)


def _of_agent(key: AgentKey) -> Candidate:
    signer = _AgentSigner(key)
    return Candidate(f"the agent's {key.comment or 'key'} ({_public(signer)})", signer)


def _public(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.asbytes())
