"""What the system's `ssh` says on stderr, sorted into our errors.

ssh(1) exits with 255 whatever went wrong, so its words are all there is. They come from OpenSSH's
sshconnect.c, sshconnect2.c, authfile.c, clientloop.c and misc.c, which do not translate them.
"""

from __future__ import annotations

import re
from pathlib import Path

from vfs.base import errors
from vfs.remote.ssh.hostkeys import read_entries

NOT_BEGUN = "ended the connection before SFTP began; is an SFTP server installed there?"

SECOND_FACTOR = (
    "{} beside or instead of a key, which artisync cannot give; it can share an `ssh` session that was opened before "
    "with `ControlMaster auto` and a `ControlPath` in ~/.ssh/config: `--transport openssh`"
)

_SIMPLE: tuple[tuple[str, type[errors.ConnectError]], ...] = (
    (r"Could not resolve hostname|Name or service not known|Temporary failure in name", errors.UnknownHost),
    (r"Connection refused", errors.Refused),
    (r"timed out|No route to host|Network is unreachable|Host is down|not responding", errors.NoAnswer),
)

_HUNG_UP = r"kex_exchange_identification|Connection closed by|Connection reset by|Broken pipe"


def error_of(words: str, place: str) -> errors.ConnectError:
    """The error behind `words`, the stderr of an ssh that ended; `place` names the server for the message."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = "\n".join(lines)
    special = _host_key(said, place) or _login(said, place)
    if special is not None:
        return special
    for pattern, kind in _SIMPLE:
        for line in lines:
            if re.search(pattern, line):
                return kind(_without_prefix(line))
    if "subsystem request failed" in said:
        return errors.NoSftp(f"{place} offers no SFTP")
    if "administratively prohibited" in said:
        return errors.ConnectError(f"{place}: the jump host does not let connections through")
    if re.search(_HUNG_UP, said):
        # What a ProxyCommand says for itself is the reason more often than not.
        others = [line for line in lines if not re.search(_HUNG_UP, line)]
        reason = f" (before that: {others[-1]})" if others else ""
        return errors.HungUp(f"{place}: the connection was closed before anybody logged in{reason}")
    if not lines:
        return errors.NoSftp(f"{place} {NOT_BEGUN}")
    return errors.ConnectError(f"{place}: {_without_prefix(lines[-1])}")


def _host_key(said: str, place: str) -> errors.ConnectError | None:
    if "REVOKED HOST KEY" in said:
        return errors.HostKeyRevoked(f"the host key of {place} is revoked in a known_hosts file")
    if "HOST IDENTIFICATION HAS CHANGED" in said or re.search(r"host key for \S+ has changed", said, re.I):
        new = re.search(
            r"fingerprint for the (\S+) key sent by the remote host is\s+(SHA256:\S+?)\.?$", said, re.M
        )
        now = f" and now is {new.group(1)} {new.group(2)}" if new else " and is another one now"
        return errors.HostKeyChanged(f"the host key of {place} was {_old_key(said)}{now}")
    unknown = re.search(r"No (\S+) host key is known for (\S+)", said)
    if unknown is not None:
        return errors.HostKeyUnknown(f"no {unknown.group(1)} host key is known for {unknown.group(2)}")
    if "Host key verification failed" in said:
        return errors.HostKeyUnknown(f"{place}: the host key is not known")
    return None


def _old_key(said: str) -> str:
    """The known key, from the line of the file that ssh names."""
    found = re.search(r"Offending (?:\S+ )?key in (.+):([0-9]+)", said)
    if found is None:
        return "known"
    file, number = Path(found.group(1)), int(found.group(2))
    for entry in read_entries(file):
        if entry.number == number:
            return f"{entry.key} ({entry.place})"
    return f"that of {file}:{number}"


def _login(said: str, place: str) -> errors.ConnectError | None:
    denied = re.search(r"(?:(\S+): )?Permission denied \(([^)]*)\)", said)
    if denied is None:
        if "Too many authentication failures" in said:
            return errors.AuthRejected(
                f"{place} cut the connection after too many keys; "
                "name the right one: `-i KEYFILE -o IdentitiesOnly=yes`"
            )
        return None
    who, wanted = denied.group(1) or place, denied.group(2)
    if "publickey" not in wanted:
        return errors.AuthRejected(f"{who} requires {SECOND_FACTOR.format(wanted.replace(',', ' or '))}")
    return errors.AuthRejected(f"{who} accepts none of the keys (it offers: {wanted})")


def _without_prefix(line: str) -> str:
    return re.sub(r"^(?:ssh: |fatal: |error: )+", "", line).rstrip(".")
