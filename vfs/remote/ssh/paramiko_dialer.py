"""SSH by paramiko: connect, verify the host key, log in, start the SFTP subsystem.

Threads: `dial` may run on several at once; each call has its own connection, deadline and agent. What they
share is in `Asking`, `KeyRing` and `KnownHosts`.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import paramiko

from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh import ssh_errors, tcp
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.hostkeys import HostKey, KnownHosts
from vfs.remote.ssh.paramiko_keys import Agent, KeyRing
from vfs.remote.ssh.paramiko_packets import BufferedSocket, Packets, receive_packets
from vfs.remote.ssh.paramiko_stream import PACKET, WINDOW, ChannelStream, Chunks, Way
from vfs.remote.ssh.prompts import Asking, Deadline
from vfs.remote.ssh.ssh_config import Target, resolve
from vfs.remote.ssh.transport import Prompter, Transport

log = logging.getLogger(__name__)

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")

REKEY_BYTES = (1 << 36) - (1 << 30)
"""AES may encrypt 2**32 blocks of 16 bytes with one key: RFC 4344, section 3.2. A gigabyte of it is left for
what is still on the way when we ask for new keys."""

REKEY_PACKETS = 1 << 31
"""RFC 4344, section 3.1."""

_MAX_JUMPS = 8


class ParamikoDialer:
    """A `Dialer`. Remembers which key worked, and passphrases (in memory only), for the next connections."""

    window_limited = False

    def __init__(
        self,
        address: Address,
        known_hosts: Path,
        *,
        prompter: Prompter | None = None,
        accept_new: bool = False,
        replace: bool = False,
        ssh_config: Path | None = None,
    ) -> None:
        """`known_hosts` is our own file, `ssh_config` stands in for `~/.ssh/config`; `accept_new` and
        `replace` are those of `KnownHosts.verify`."""
        self._address = address
        self._known_hosts = known_hosts
        self._accept_new = accept_new
        self._replace = replace
        self._ssh_config = ssh_config
        self.login = ""
        self._asking = Asking(prompter)
        self._keys = KeyRing(self._asking)
        _quiet_paramiko()

    def destination(self, timeout: float) -> Destination:
        """As `Dialer.destination`."""
        target = resolve(self._address, self._ssh_config)
        way = "a ProxyCommand" if target.proxy_command else None
        if target.jumps:
            way = f"the jump host {target.jumps[-1].host}"
        return Destination(
            target.host, target.port, target.user, target.key_name, target.known_hosts, by_way_of=way
        )

    def dial(self, timeout: float) -> Transport:
        """As `Dialer.dial`; the time in which a person answers does not count.

        Raises `errors.ConnectError`.
        """
        deadline = Deadline(timeout)
        way = Way()
        try:
            target = resolve(self._address, self._ssh_config)
            session = self._log_in(target, way, deadline)
            self.login = way.login
            stream = ChannelStream(_open_sftp(session, target, way, deadline), way, target.place)
            way.settle()
        except BaseException:
            way.close()
            raise
        log.debug("connected to %s as %s", target.place, target.user)
        return stream

    def _log_in(self, target: Target, way: Way, deadline: Deadline, depth: int = 0) -> paramiko.Transport:
        """A session on `target`, through whatever lies before it."""
        if depth > _MAX_JUMPS:
            raise errors.ConnectError(f"the jump hosts before {target.place} go round in a circle")
        if not target.jumps:
            return self._secure(self._reach(target, way, deadline), target, way, deadline)
        first = resolve(target.jumps[0], self._ssh_config)
        session = self._log_in(first, way, deadline, depth + 1)
        for hop in [*(resolve(j, self._ssh_config) for j in target.jumps[1:]), target]:
            channel = _through(session, hop, deadline)
            session = self._secure(channel, hop, way, deadline)
        return session

    def _reach(self, target: Target, way: Way, deadline: Deadline) -> socket.socket:
        """A stream to the host's SSH port: TCP, or what the ProxyCommand makes."""
        if target.proxy_command is None:
            sock = tcp.connect(target.host, target.port, deadline)
        else:
            sock, theirs = socket.socketpair()
            with theirs:
                try:
                    # As ssh does it: a shell that gives way to the command.
                    child = Child(
                        ["/bin/sh", "-c", f"exec {target.proxy_command}"],
                        stdin=theirs.fileno(),
                        stdout=theirs.fileno(),
                    )
                except OSError as e:
                    sock.close()
                    raise errors.ConnectError(f"the ProxyCommand cannot be run: {e.strerror}") from e
            way.children.append(child)
        way.sockets.append(sock)
        return sock

    def _secure(
        self, sock: socket.socket | paramiko.Channel, target: Target, way: Way, deadline: Deadline
    ) -> paramiko.Transport:
        """Agree on keys over `sock`, check who is there, and log in."""
        known = KnownHosts(self._known_hosts, target.known_hosts)
        buffered = BufferedSocket(sock) if isinstance(sock, socket.socket) else sock
        session = paramiko.Transport(
            cast("socket.socket", buffered), default_window_size=WINDOW, default_max_packet_size=PACKET
        )
        if isinstance(buffered, BufferedSocket):
            receive_packets(session.packetizer, buffered)
        way.sessions.append(session)
        options = session.get_security_options()
        options.ciphers = [c for c in CIPHERS if c in options.ciphers]
        options.key_types = _preferred(options.key_types, known.kinds(target.key_name))
        session.packetizer.REKEY_BYTES = REKEY_BYTES
        session.packetizer.REKEY_PACKETS = REKEY_PACKETS
        left = deadline.need(target.place)
        # Our own limit is the one of start_client; these two only must not come before it.
        session.banner_timeout = session.handshake_timeout = left + 1
        try:
            session.start_client(timeout=left)
        except (paramiko.SSHException, OSError, EOFError) as e:
            raise _no_handshake(e, target, way, deadline) from e
        if not session.initial_kex_done:
            raise errors.NoAnswer(f"{target.place} takes connections and says nothing")
        shown = session.get_remote_server_key()
        key = HostKey(shown.get_name(), shown.asbytes())
        self._asking.about_host_key(
            deadline,
            lambda person: known.verify(
                target.key_name, key, prompter=person, accept_new=self._accept_new, replace=self._replace
            ),
        )
        way.login = self._authenticate(session, target, deadline)
        return session

    def _authenticate(self, session: paramiko.Transport, target: Target, deadline: Deadline) -> str:
        """Log in; how it was done, for people."""
        agent = None
        if target.agent is not None:
            try:
                agent = Agent(target.agent, deadline.need(target.place))
            except (OSError, paramiko.SSHException) as e:
                log.info("no ssh-agent at %s: %s", target.agent, e)
        try:
            return self._try_keys(session, target, agent, deadline)
        finally:
            if agent is not None:
                agent.close()

    def _try_keys(
        self, session: paramiko.Transport, target: Target, agent: Agent | None, deadline: Deadline
    ) -> str:
        problems: list[errors.ConnectError] = []
        tried: list[str] = []
        for candidate in self._keys.candidates(target, agent, deadline, problems):
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
                raise errors.AuthRejected(
                    f"{target.place} accepts {candidate.label} but wants {' or '.join(more)} too, "
                    "which artisync cannot give"
                )
            self._keys.worked(target, candidate)
            return f"with {candidate.label}"
        offered: list[str] = []
        if session.is_active():
            session.auth_timeout = deadline.need(target.place)
            try:
                # Some servers let anybody in who got this far (a VPN's own SSH); the others tell what they
                # want.
                if not session.auth_none(target.user):
                    return "without a key"
            except paramiko.BadAuthenticationType as e:
                offered = list(e.allowed_types)
            except paramiko.SSHException as e:
                log.debug("no login without a key: %s", e)
        raise _rejected(target, tried, problems, offered, session.is_active())


def _rejected(
    target: Target, tried: list[str], problems: list[errors.ConnectError], offered: list[str], connected: bool
) -> errors.ConnectError:
    """The most useful thing to say when no key worked."""
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


def _no_handshake(failure: Exception, target: Target, way: Way, deadline: Deadline) -> errors.ConnectError:
    """Why the two sides did not come to keys."""
    if deadline.passed or isinstance(failure, TimeoutError):
        return errors.NoAnswer(f"no answer from {target.place} in time")
    if way.children and len(way.sessions) == 1:
        child = way.children[0]
        # It closed its end a moment ago; its last words are on the way.
        child.wait(min(1.0, deadline.left))
        words = child.words()
        if words.strip():
            return ssh_errors.error_of(words, f"the ProxyCommand for {target.place}")
        return errors.ConnectError(
            f"the ProxyCommand for {target.place} ended without a word (status {child.status})"
        )
    if isinstance(failure, paramiko.ssh_exception.IncompatiblePeer):
        return errors.ConnectError(f"{target.place}: {failure}; try `--transport openssh`")
    if "Indecipherable protocol version" in str(failure):
        return errors.ConnectError(f"what listens at {target.place} is no SSH server")
    if isinstance(failure, EOFError | ConnectionError) or "protocol banner" in str(failure):
        return errors.HungUp(f"{target.place}: the connection was closed before anybody logged in")
    return errors.ConnectError(f"{target.place}: {failure}")


def _through(session: paramiko.Transport, hop: Target, deadline: Deadline) -> paramiko.Channel:
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


def _open_sftp(session: paramiko.Transport, target: Target, way: Way, deadline: Deadline) -> paramiko.Channel:
    left = deadline.need(target.place)
    # paramiko waits for the answer to "subsystem" without a limit.
    watchdog = threading.Timer(left, way.close)
    watchdog.daemon = True
    watchdog.start()
    try:
        channel = session.open_session(timeout=left)
        channel.in_buffer = Chunks()
        if isinstance(session.packetizer, Packets):
            session.packetizer.views = True
        channel.invoke_subsystem("sftp")
    except paramiko.ChannelException as e:
        raise errors.ConnectError(f"{target.place} lets no more sessions in: {e.text}") from e
    except (paramiko.SSHException, OSError, EOFError) as e:
        if deadline.passed:
            raise errors.NoAnswer(f"no answer from {target.place} when SFTP was asked for") from e
        raise errors.NoSftp(f"{target.place} offers no SFTP: {e}") from e
    finally:
        watchdog.cancel()
    return channel


def _preferred(offered: Sequence[str], kinds: list[str]) -> list[str]:
    """The host key algorithms with those first for which a key is known."""
    names = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    first = [a for k in kinds for a in names.get(k, (k,)) if a in offered]
    return [*first, *(a for a in offered if a not in first)]


def _quiet_paramiko() -> None:
    """paramiko reports every lost link with a traceback; that is for `-v -v` only."""
    logger = logging.getLogger("paramiko")
    logger.setLevel(logging.INFO if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL + 1)
