"""What ssh says, and what we make of it; the words are those of OpenSSH 9."""

from __future__ import annotations

import pytest

from vfs.base import errors
from vfs.remote.ssh.ssh_errors import error_of

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:new.
Offending ED25519 key in /no/such/known_hosts:3
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (
            "ssh: Could not resolve hostname bx: Name or service not known\r\n",
            errors.UnknownHost,
            "hostname bx",
        ),
        (
            "ssh: connect to host box port 22: Connection refused",
            errors.Refused,
            "port 22: Connection refused",
        ),
        ("ssh: connect to host box port 22: Connection timed out", errors.NoAnswer, "timed out"),
        ("ssh: connect to host box port 22: No route to host", errors.NoAnswer, "No route"),
        ("Connection timed out during banner exchange", errors.NoAnswer, ""),
        ("Timeout, server box not responding.", errors.NoAnswer, "not responding"),
        ("No ED25519 host key is known for [box]:3 and you…", errors.HostKeyUnknown, "known for [box]:3"),
        ("Host key verification failed.", errors.HostKeyUnknown, ""),
        (CHANGED, errors.HostKeyChanged, "/no/such/known_hosts:3 and now is ED25519 SHA256:new"),
        (
            "WARNING: REVOKED HOST KEY DETECTED!\nHost key verification failed.",
            errors.HostKeyRevoked,
            "revoked",
        ),
        ("me@box: Permission denied (publickey,password).", errors.AuthRejected, "publickey,password"),
        ("Received disconnect: Too many authentication failures", errors.AuthRejected, "IdentitiesOnly"),
        ("subsystem request failed on channel 0", errors.NoSftp, "offers no SFTP"),
        (
            "kex_exchange_identification: Connection closed by remote host",
            errors.HungUp,
            "before anybody logged in",
        ),
        (
            "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 1.2.3.4 port 22",
            errors.HungUp,
            "closed",
        ),
        ("banner exchange: Connection to UNKNOWN port 65535: Broken pipe", errors.HungUp, "closed"),
        (
            "the token has expired\nbanner exchange: Connection to UNKNOWN port 65535: Broken pipe",
            errors.HungUp,
            "before that: the token has expired",
        ),
        (
            "channel 0: open failed: administratively prohibited: open failed",
            errors.ConnectError,
            "jump host",
        ),
        (
            "channel 0: open failed: connect failed: Connection refused\nConnection closed by UNKNOWN",
            errors.Refused,
            "refused",
        ),
        ("Bad owner or permissions on /home/me/.ssh/config", errors.ConnectError, "/home/me/.ssh/config"),
        ("", errors.NoSftp, "before SFTP began"),
    ],
)
def test_the_words_of_ssh_become_an_error_of_ours(
    words: str, kind: type[errors.ConnectError], said: str
) -> None:
    error = error_of(words, "box:22")
    assert type(error) is kind
    assert said in str(error)
