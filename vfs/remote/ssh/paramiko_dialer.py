"""SSH by paramiko: connect, verify the host key, log in, start the SFTP subsystem.

Threads: `dial` may run on several at once; each call has its own connection, deadline and agent. What they
share is in `Prompts`, `KeyRing` and `KnownHosts`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import paramiko

from vfs.base import errors
from vfs.base.address import Address
from vfs.base.option_values import TransportName
from vfs.remote.ssh import ssh_errors, tcp
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.dialer import SshDialer
from vfs.remote.ssh.hostkeys import HostKey, algorithms
from vfs.remote.ssh.paramiko_keys import HeldKey, KeyRing, agent_keys
from vfs.remote.ssh.paramiko_session import Session
from vfs.remote.ssh.paramiko_stream import Chain, ChannelStream, Chunks
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.transport import HELLO, Transport

log = logging.getLogger(__name__)

CHACHA = "chacha20-poly1305@openssh.com"
"""What `ssh` takes first, and paramiko has not."""

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")


class ParamikoDialer(SshDialer):
    """A `Dialer`. Keeps which key worked, and passphrases (in memory only), for later connections."""

    window_limited = False
    transport: TransportName = "paramiko"
    leave_slow = False
    """Leave a server without AES-GCM to the system's ssh if that can use ChaCha20. Such servers, as dropbear, do not use the
    processor's AES instructions, and take twice the time under AES."""

    def __init__(self, address: Address, known_hosts: Path, **more: Any) -> None:
        """As for `SshDialer`."""
        super().__init__(address, known_hosts, **more)
        self.login = ""
        self._keys = KeyRing(self._prompts)

    def dial(self, timeout: float) -> Transport:
        """As `Dialer.dial`; the time in which a person answers does not count.

        Raises `errors.ConnectError`.
        """
        deadline = Deadline(timeout)
        chain = Chain()
        try:
            route = self._route(deadline)
            for hop in route:
                if hop.only_ssh is not None:
                    raise errors.NeedsOpenssh(f"paramiko cannot use {hop.only_ssh} ({hop.place})")
            session: Session | None = None
            for hop in route:
                near = (
                    self._reach(hop, chain, deadline) if session is None else _through(session, hop, deadline)
                )
                session = self._secure(near, hop, chain, deadline)
            assert session is not None
            self.login = chain.login
            stream = ChannelStream(_open_sftp(session, route[-1], deadline), chain)
            chain.settle()
        except BaseException:
            chain.close()
            raise
        log.debug("connected to %s as %s", route[-1].place, route[-1].user)
        return stream

    def _reach(self, target: Destination, chain: Chain, deadline: Deadline) -> socket.socket:
        """A stream to the host's SSH port: TCP, or what the ProxyCommand makes."""
        if target.proxy_command is None:
            sock = tcp.connect(target, deadline)
        else:
            try:
                # As ssh does it: by a shell that execs the command.
                child = Child(["/bin/sh", "-c", f"exec {target.proxy_command}"])
            except OSError as e:
                raise errors.ConnectError(f"the ProxyCommand cannot be run: {e.strerror}") from e
            chain.children.append(child)
            sock = child.socket
        chain.sockets.append(sock)
        return sock

    def _secure(
        self, sock: socket.socket | paramiko.Channel, target: Destination, chain: Chain, deadline: Deadline
    ) -> Session:
        """Exchange keys over `sock`, verify the host key, and log in."""
        session = Session(cast("socket.socket", sock))
        chain.sessions.append(session)
        options = session.get_security_options()
        options.ciphers = _ciphers(target)
        options.key_types = _preferred(options.key_types, self._known(target).kinds(target.key_name))
        left = deadline.need(target.place)
        # start_client has the limit; these two must only not end it earlier.
        session.banner_timeout = session.handshake_timeout = left + 1
        try:
            session.start_client(timeout=left)
        except (paramiko.SSHException, OSError, EOFError) as e:
            raise _no_handshake(e, target, chain, deadline) from e
        if not session.initial_kex_done:
            raise errors.NoAnswer(f"{target.place} accepts connections but does not answer")
        if self.leave_slow and _faster_by_chacha(session, target):
            raise errors.NeedsOpenssh(
                f"{target.place} is fast only with ChaCha20, which paramiko does not have"
            )
        shown = session.get_remote_server_key()
        self._verify(target, HostKey(shown.get_name(), shown.asbytes()), deadline)
        with agent_keys(target.agent, deadline.need(target.place)) as held:
            chain.login = self._authenticate(session, target, held, deadline)
        return session

    def _authenticate(
        self, session: Session, target: Destination, held: Mapping[bytes, HeldKey], deadline: Deadline
    ) -> str:
        """Log in; returns how, for people. `held`: the agent's keys."""
        problems: list[errors.ConnectError] = []
        tried: list[str] = []
        for candidate in self._keys.candidates(target, held, deadline, problems):
            session.auth_timeout = deadline.need(target.place)
            try:
                more = session.auth_publickey(target.user, candidate.key)
            except paramiko.SSHException as e:
                if deadline.passed:
                    raise errors.NoAnswer(f"no answer from {target.place} while logging in") from e
                tried.append(candidate.label)
                if isinstance(e, paramiko.BadAuthenticationType) or not session.is_active():
                    break
                continue
            if more:
                wanted = ssh_errors.SECOND_FACTOR.format(" or ".join(more))
                raise errors.AuthRejected(f"{target.place} accepts {candidate.label} but requires {wanted}")
            self._keys.worked(target, candidate)
            return f"with {candidate.label}"
        offered: list[str] = []
        if session.is_active():
            session.auth_timeout = deadline.need(target.place)
            try:
                # Some servers need no key (a VPN's own SSH); the others tell which methods they take.
                if not session.auth_none(target.user):
                    return "without a key"
            except paramiko.BadAuthenticationType as e:
                offered = list(e.allowed_types)
            except paramiko.SSHException as e:
                log.debug("no login without a key: %s", e)
        raise _rejected(target, tried, problems, offered, session.is_active())


def _rejected(
    target: Destination,
    tried: list[str],
    problems: list[errors.ConnectError],
    offered: list[str],
    connected: bool,
) -> errors.ConnectError:
    """The error of a login in which no key worked."""
    who = f"{target.user}@{target.place}"
    if tried:
        text = f"{who} rejects {', '.join(tried)}"
    else:
        missing = [f"no {path}" for path in target.key_files] if target.keys_named else ["none in ~/.ssh"]
        text = f"there is no key to try for {who}: {', '.join(missing)}, none in an ssh-agent"
    if problems:
        return type(problems[0])(f"{problems[0]} ({text})" if tried else str(problems[0]))
    if tried and not connected:
        text += (
            ", and then cut the connection; if these are too many keys: `-i KEYFILE -o IdentitiesOnly=yes`"
        )
    elif offered and "publickey" not in offered:
        text += f"; it takes no keys at all, but {', '.join(offered)}"
    return errors.AuthRejected(text)


def _no_handshake(
    failure: Exception, target: Destination, chain: Chain, deadline: Deadline
) -> errors.ConnectError:
    """Why the key exchange failed."""
    if deadline.passed or isinstance(failure, TimeoutError):
        return errors.NoAnswer(f"no answer from {target.place} in time")
    if chain.children and len(chain.sessions) == 1:
        child = chain.children[0]
        # It has just closed its end; give its last words time to arrive.
        child.wait(min(1.0, deadline.left))
        words = child.words()
        if words.strip():
            return ssh_errors.error_of(words, f"the ProxyCommand for {target.place}")
        return errors.ConnectError(
            f"the ProxyCommand for {target.place} ended without a message (status {child.status})"
        )
    if isinstance(failure, paramiko.ssh_exception.IncompatiblePeer):
        return errors.NeedsOpenssh(f"paramiko has no algorithm in common with {target.place}: {failure}")
    if "Indecipherable protocol version" in str(failure):
        return errors.ConnectError(f"what listens at {target.place} is not an SSH server")
    if isinstance(failure, EOFError | ConnectionError) or "protocol banner" in str(failure):
        return errors.HungUp(f"{target.place}: the connection was closed before anybody logged in")
    return errors.ConnectError(f"{target.place}: {failure}")


def _through(session: Session, hop: Destination, deadline: Deadline) -> paramiko.Channel:
    """A stream to `hop`'s SSH port, made by the jump host that `session` is on."""
    try:
        return session.open_channel(
            "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=deadline.need(hop.place)
        )
    except paramiko.ChannelException as e:
        text = f"the jump host does not get through to {hop.place}: {e.text.lower()}"
        # RFC 4254, section 5.1: 2 is "connect failed"; paramiko keeps the server's own reason to itself.
        raise (errors.Refused if e.code == 2 else errors.ConnectError)(text) from e
    except (paramiko.SSHException, OSError, EOFError) as e:
        raise errors.NoAnswer(f"no answer from {hop.place} through the jump host") from e


def _open_sftp(session: Session, target: Destination, deadline: Deadline) -> paramiko.Channel:
    """A channel on which the server's SFTP has answered `HELLO`."""
    chunks = Chunks()
    try:
        channel = session.open_session(timeout=deadline.need(target.place))
        channel.in_buffer = chunks
        session.ask_for_sftp(channel)
        channel.settimeout(deadline.need(target.place))
        with suppress(OSError):  # the server has closed it
            channel.sendall(HELLO)
        channel.settimeout(None)
    except paramiko.ChannelException as e:
        raise errors.ConnectError(f"{target.place} accepts no more sessions: {e.text}") from e
    except (paramiko.SSHException, OSError, EOFError) as e:
        if deadline.passed:
            raise errors.NoAnswer(f"no answer from {target.place} when a session was asked for") from e
        raise errors.HungUp(f"{target.place} closed the connection after the login") from e
    if not chunks.begin(deadline.left):
        if deadline.passed:
            raise errors.NoAnswer(f"{target.place} does not answer the SFTP greeting")
        refused = not channel.event_ready and session.is_active()
        raise errors.NoSftp(f"{target.place} {'offers no SFTP' if refused else ssh_errors.NOT_BEGUN}")
    return channel


def _ciphers(target: Destination) -> list[str]:
    """Those of ours that the configuration allows."""
    allowed = [c for c in CIPHERS if not target.ciphers or c in target.ciphers]
    if not allowed:
        raise errors.NeedsOpenssh(f"paramiko knows none of the ciphers {', '.join(target.ciphers)}")
    return allowed


def _faster_by_chacha(session: Session, target: Destination) -> bool:
    allowed = not target.ciphers or CHACHA in target.ciphers
    return allowed and CHACHA in session.offered and not any("gcm" in name for name in session.offered)


def _preferred(offered: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The host key algorithms with those first for which a key is known."""
    first = [a for a in algorithms(kinds) if a in offered]
    return [*first, *(a for a in offered if a not in first)]
