"""Which host keys are trusted: our own known_hosts, and the user's and the system's, which are only read.

Our file comes first: if it has a key of a host, the other files' keys of that host do not count, so that an old line
elsewhere does not contradict a key that was accepted here. The format: sshd(8) of OpenSSH, "SSH_KNOWN_HOSTS FILE FORMAT".

Threads: any, without a lock; writers of our file take flock(2) on its directory.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramiko import HostKeys

from vfs.base import errors, paths
from vfs.base.paths import write_atomically
from vfs.remote.ssh.transport import Prompter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key: its kind (`ssh-ed25519`, …) and its blob as RFC 4253, section 6.6, encodes it."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    @property
    def label(self) -> str:
        """The kind as ssh names it to people: `ED25519`, `ECDSA`, `RSA`."""
        return self.kind.removeprefix("sk-").removeprefix("ssh-").split("@")[0].split("-")[0].upper()

    def __str__(self) -> str:
        return f"{self.label} {self.fingerprint}"

    def of(self, name: str) -> str:
        """The key and its host, for messages."""
        return f"{self.label} key {self.fingerprint} of {name}"


@dataclass(frozen=True, slots=True)
class HostLine:
    """One line of a known_hosts file."""

    file: Path
    number: int
    marker: str
    """Empty, `@revoked` or `@cert-authority`."""
    names: str
    key: HostKey

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"

    def matches(self, name: str) -> bool:
        """Whether the line is about `name`. Names are hashed, or patterns with `*`, `?` and a leading `!` for "not"."""
        if self.names.startswith("|"):
            return _is_hash_of(self.names, name)
        patterns = self.names.lower().split(",")
        if any(_wildcard_match(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
            return False
        return any(_wildcard_match(pattern, name) for pattern in patterns)

    def only_about(self, name: str) -> bool:
        """Whether the line names nothing but `name`."""
        return self.names.lower() == name or (self.names.startswith("|") and _is_hash_of(self.names, name))


def host_name(host: str, port: int, alias: str | None = None) -> str:
    """The name under which a host's key is kept: `host`, `[host]:port`, or its HostKeyAlias as it is."""
    if alias is not None:
        return alias.lower()
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def algorithms(kinds: Sequence[str]) -> list[str]:
    """The signature algorithms for host keys of these kinds; RFC 8332 gives RSA two."""
    return [a for k in kinds for a in (("rsa-sha2-512", "rsa-sha2-256") if k == "ssh-rsa" else (k,))]


class KnownHosts:
    """Host keys in files. `ours` is written (0600, in a directory of 0700), `others` are read."""

    def __init__(self, ours: Path, others: Sequence[Path] = ()) -> None:
        self.ours = ours
        self.others = tuple(others)
        self._accepted: set[tuple[str, HostKey]] = set()

    def entries(self, name: str) -> list[HostLine]:
        """The lines about `name` in all files, ours first."""
        return [e for file in (self.ours, *self.others) for e in read_entries(file) if e.matches(name)]

    def kinds(self, name: str) -> list[str]:
        """The kinds of keys known for `name`. The client prefers these, so that the server does not show an unknown key."""
        return list(dict.fromkeys(e.key.kind for e in self.trusted(name)))

    def trusted(self, name: str) -> list[HostLine]:
        """The lines whose keys prove that the server is `name`."""
        return self._deciding(name) or self._deciding(_without_port(name))

    def by_authority(self, name: str) -> HostLine | None:
        """The line that lets a certificate authority vouch for `name`, if there is one."""
        return next((e for e in self.entries(name) if e.marker == "@cert-authority"), None)

    def knows(self, name: str) -> bool:
        """Whether a key of `name` is known, so that another one is a changed one."""
        return bool(self._deciding(name))

    def refuse_revoked(self, name: str, key: HostKey) -> None:
        """Raises `errors.HostKeyRevoked`."""
        for entry in self.entries(name):
            if entry.marker == "@revoked" and entry.key == key:
                raise errors.HostKeyRevoked(f"the {key.of(name)} is revoked ({entry.place})")

    def check(self, name: str, key: HostKey) -> bool:
        """True if `key` is known for `name`, False if nothing is known of it.

        Raises `errors.HostKeyChanged` and `errors.HostKeyRevoked`.
        """
        self.refuse_revoked(name, key)
        if (name, key) in self._accepted:
            return True
        deciding = self._deciding(name)
        if any(e.key == key for e in deciding):
            return True
        if deciding:
            raise errors.HostKeyChanged(self._changed_text(name, _replaced_by(key, deciding), key))
        # As for ssh: a key known at port 22 proves itself at another port, and forbids no other there.
        return any(e.key == key for e in self._deciding(_without_port(name)))

    def verify(
        self,
        name: str,
        key: HostKey,
        *,
        prompter: Prompter | None = None,
        accept_new: bool = False,
        replace: bool = False,
    ) -> None:
        """Return if `key` may be trusted for `name`; what is newly trusted is written to our file.

        Unknown key: a person is asked, unless `accept_new` is given. Changed key: refused, unless `replace` is given; then a
        person is asked, and without a person `accept_new` is needed as well. Blocks while a person answers.

        Raises `errors.HostKeyUnknown`, `errors.HostKeyChanged` (`errors.NobodyToAsk`), `errors.HostKeyRevoked`, and
        `errors.NeedsOpenssh` where a certificate authority vouches for the host.
        """
        old: HostLine | None = None
        refusal: errors.ConnectError
        try:
            if self.check(name, key):
                return
        except errors.HostKeyChanged as changed:
            if not replace:
                raise
            old = _replaced_by(key, self._deciding(name))
            refusal = changed if prompter is not None else errors.NobodyToAsk(str(changed))
        else:
            authority = self.by_authority(name)
            if authority is not None:
                raise errors.NeedsOpenssh(
                    f"{name} is trusted through a certificate authority ({authority.place}), "
                    "which paramiko does not understand"
                )
            declined = "; it was not accepted" if prompter is not None else ""
            refusal = errors.HostKeyUnknown(f"the {key.label} key of {name} is {key.fingerprint}{declined}")
        accepted = accept_new
        if prompter is not None and not (old is None and accept_new):
            shown = None if old is None else old.key.fingerprint
            accepted = prompter.accept_host_key(name, key.label, key.fingerprint, shown)
        if not accepted:
            raise refusal
        self._write(name, key)

    def _deciding(self, name: str) -> list[HostLine]:
        """Our lines about `name` if there are any, else the others'; without those that carry a marker."""
        for files in ((self.ours,), self.others):
            found = [e for f in files for e in read_entries(f) if not e.marker and e.matches(name)]
            if found:
                return found
        return []

    def _changed_text(self, name: str, old: HostLine, key: HostKey) -> str:
        text = f"the host key of {name} was {old.key} ({old.place}) and now is {key}"
        if old.file != self.ours:
            text += f"; if that is right, `ssh-keygen -f {old.file} -R '{name}'` makes ssh forget the old one"
        return text

    def _write(self, name: str, key: HostKey) -> None:
        self._accepted = {(n, k) for n, k in self._accepted if n != name} | {(name, key)}
        try:
            _rewrite(self.ours, name, key)
        except OSError as e:
            log.warning("the host key of %s is not saved: %s: %s", name, self.ours, e.strerror)


def _replaced_by(key: HostKey, known: Sequence[HostLine]) -> HostLine:
    return next((e for e in known if e.key.kind == key.kind), known[0])


def _without_port(name: str) -> str:
    return re.sub(r"^\[(.+)\]:[0-9]+$", r"\1", name)


def read_entries(file: Path) -> list[HostLine]:
    """The valid lines of `file`; none if it cannot be read."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return []
    return list(_parse(file, text))


def _parse(file: Path, text: str) -> Iterator[HostLine]:
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked", "@cert-authority"):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield HostLine(file, number, marker, words[0], HostKey(words[1], blob))


def _wildcard_match(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    regex = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(regex, name) is not None


def _is_hash_of(hashed: str, name: str) -> bool:
    """`|1|salt|hash`, the hash being HMAC-SHA1 of the name."""
    try:
        return HostKeys.hash_host(name, hashed) == hashed
    except (AssertionError, ValueError, LookupError):  # it is no hash
        return False


def _rewrite(file: Path, name: str, key: HostKey) -> None:
    """Make `key` the one of `name` in `file`, in one step. Raises OSError."""
    paths.make_private(file.parent)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            text = file.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            text = ""
        dropped = {e.number for e in _parse(file, text) if not e.marker and e.only_about(name)}
        kept = [line for n, line in enumerate(text.split("\n"), 1) if line and n not in dropped]
        kept.append(f"{name} {key.kind} {base64.b64encode(key.blob).decode()}")
        write_atomically(file, "\n".join(kept) + "\n")
    finally:
        os.close(directory)
