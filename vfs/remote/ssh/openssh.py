"""SSH by the system's `ssh`: a child process with SFTP on its stdin and stdout, set up as the user's configuration says.

We add our own known_hosts file, which comes before the user's, and ask a person through `Prompter`. An unknown host key is
fetched by a first login that offers no key, shown to the person, and written to our file; the real login is always strict.
Each jump host becomes a ProxyCommand with the same options, so that its key is checked in the same way.

Threads: `dial` may run on several at once. `_verified` is only added to.
"""

from __future__ import annotations

import logging
import os
import select
import shlex
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from vfs.base import errors
from vfs.base.option_values import TransportName
from vfs.remote.ssh import ssh_errors
from vfs.remote.ssh.askpass import Askpass
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.child_stream import ChildStream
from vfs.remote.ssh.destination import Destination, NewKey
from vfs.remote.ssh.dialer import SshDialer
from vfs.remote.ssh.hostkeys import HostKey, algorithms, read_entries
from vfs.remote.ssh.keyfiles import read_key_file
from vfs.remote.ssh.paramiko_keys import agent_keys
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.ssh_config import config_quote, line_options, no_ssh, ssh_command
from vfs.remote.ssh.transport import HELLO, Transport

log = logging.getLogger(__name__)

_FIRM = (
    "LogLevel=INFO",  # below that, ssh does not always tell that it did not get through
    "UpdateHostKeys=no",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "ClearAllForwardings=yes",
    "ControlMaster=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ForwardAgent=no",
    "ForwardX11=no",
)
"""Options that override the line and the user's file, for a plain stream. A running ControlMaster is used, none is started."""

_PREFERRED = ("Compression=no", "ServerAliveInterval=5", "ServerAliveCountMax=3")
"""Options that override the user's file, but not the line."""

_LAST_WORDS = 1.0
"""Seconds that ssh has to exit after it closed its output."""

AGENT_SECONDS = 2.0
"""For the agent to say which keys it holds, when a login has failed."""


class OpensshDialer(SshDialer):
    """A `Dialer` over the system's ssh."""

    window_limited = True
    transport: TransportName = "openssh"
    login = ""
    """ssh does not tell."""

    def dial(self, timeout: float) -> Transport:
        """As `Dialer.dial`; the time in which a person answers does not count."""
        deadline = Deadline(timeout)
        route = self._route(deadline)
        for number in range(len(route)):
            self._see_host_key(route, number, deadline)
        words = [*self._command(route, len(route) - 1, deadline), "-s", "--", route[-1].address.host, "sftp"]
        log.debug("running %s", shlex.join(words))
        with self._askpass(deadline) as askpass:
            child = _start(words, askpass)
            stream = ChildStream(child)
            try:
                stream.send_now(HELLO)
                if not _begins(child.socket, askpass, route[-1].place, deadline):
                    child.wait(_LAST_WORDS)
                    raise self._error(child.words(), route)
            except BaseException:
                stream.close()
                raise
        return stream

    # --- which commands

    def _command(
        self, route: Sequence[Destination], number: int, deadline: Deadline, firm: Sequence[str] = ()
    ) -> list[str]:
        """ssh to `route[number]` through the hops before it, up to the host's name. `firm` overrides all other options."""
        hop = route[number]
        if hop.new_key is NewKey.ANY:
            trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        else:
            files = " ".join(config_quote(f) for f in (self._known_hosts, *hop.known_hosts))
            trust = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={files}"]
        options = [
            *firm,
            *_FIRM,
            *(f"{name}=no" for name in hop.detaching),
            *trust,
            f"BatchMode={'yes' if self._prompts.person is None else 'no'}",
        ]
        if number > 0:
            options.append(f"ProxyCommand={self._proxy_command(route, number - 1, deadline)}")
        elif hop.address.jump is not None:
            options.append("ProxyJump=none")
        later = [*_PREFERRED, f"ConnectTimeout={max(1, int(deadline.left))}"]
        if hop.ciphers:
            first = [c for c in hop.ciphers if c.startswith("aes128-gcm")]
            later.append(f"Ciphers={','.join(dict.fromkeys([*first, *hop.ciphers]))}")
        return [
            *ssh_command(self._ssh_config),
            "-Tax",
            *(f"-o{o}" for o in options),
            *line_options(hop.address),
            *(f"-o{o}" for o in later),
        ]

    def _proxy_command(self, route: Sequence[Destination], number: int, deadline: Deadline) -> str:
        words = [*self._command(route, number, deadline), "--", route[number].address.host]
        # `%h` and `%p` are for the ssh that runs this; all other percent signs are literal.
        quoted = [shlex.quote(w.replace("%", "%%")) for w in words]
        return " ".join([*quoted[:-2], "-W", "'[%h]:%p'", *quoted[-2:]])

    # --- host keys

    def _see_host_key(self, route: Sequence[Destination], number: int, deadline: Deadline) -> None:
        """Make sure that a file holds the hop's host key, before ssh looks for it; a new key is verified as `_verify` does."""
        hop = route[number]
        if hop.key_name in self._verified:
            return
        known = self._known(hop)
        if hop.new_key is NewKey.ANY:
            self._warn(f"the host key of {hop.key_name} is not checked, as the ssh configuration says")
        elif self._replace or not any(e.marker != "@revoked" for e in known.entries(hop.key_name)):
            for key in self._fetch_key(route, number, known.kinds(hop.key_name), deadline):
                self._verify(hop, key, deadline)
        self._verified.add(hop.key_name)

    def _fetch_key(
        self, route: Sequence[Destination], number: int, kinds: Sequence[str], deadline: Deadline
    ) -> list[HostKey]:
        """The key that the hop shows to a login that offers no key of ours; none if ssh trusts it already.

        Raises `errors.ConnectError`.
        """
        hop = route[number]
        with tempfile.TemporaryDirectory(prefix="artisync-key-") as directory:
            file = Path(directory) / "known_hosts"
            firm = [
                "StrictHostKeyChecking=accept-new",
                f"UserKnownHostsFile={file}",
                "GlobalKnownHostsFile=/dev/null",
                "HashKnownHosts=no",
                "PreferredAuthentications=none",
                "ControlPath=none",
            ]
            if kinds:
                firm.append(f"HostKeyAlgorithms=^{','.join(algorithms(kinds))}")
            words = [*self._command(route, number, deadline, firm), "-s", "--", hop.address.host, "sftp"]
            child = _start(words, None)
            child.socket.close()
            ended = child.wait(deadline.left)
            child.close()
            keys = [e.key for e in read_entries(file) if not e.marker]
        if keys:
            return keys
        if not ended:
            raise errors.NoAnswer(f"no answer from {hop.place} in time")
        error = ssh_errors.error_of(child.words(), hop.place)
        if isinstance(error, errors.AuthRejected):
            return []  # ssh knows the key from elsewhere: a KnownHostsCommand
        raise error

    # --- logging in

    def _askpass(self, deadline: Deadline) -> AbstractContextManager[Askpass | None]:
        """Who answers ssh; None where there is nobody to ask."""
        last: dict[str, str | None] = {}

        def answer(key: str, again: bool) -> str | None:
            last[key] = self._prompts.passphrase(deadline, key, wrong=last.get(key) if again else None)
            return last[key]

        if self._prompts.person is not None:
            try:
                return closing(Askpass(answer))
            except OSError as e:
                log.warning("ssh cannot be told a passphrase: %s", e)
        return nullcontext()

    def _error(self, said: str, route: Sequence[Destination]) -> errors.ConnectError:
        """The error behind ssh's words, with the keys that were tried."""
        error = ssh_errors.error_of(said, route[-1].place)
        if type(error) is not errors.AuthRejected:
            return error
        found = [(hop.keys_named, read_key_file(path)) for hop in route for path in hop.key_files]
        files = [file for named, file in found if named or file.there]
        with agent_keys(route[-1].agent, AGENT_SECONDS) as keys:
            in_agent = set(keys)
        bad = next((file.problem for file in files if file.problem and file.blob not in in_agent), None)
        if bad is not None:
            return errors.KeyFileUnusable(f"{bad} ({error})")
        locked = [str(f.path) for f in files if f.encrypted and f.blob not in in_agent]
        if locked:
            return errors.PassphraseNeeded(f"the key {locked[0]} is locked with a passphrase ({error})")
        tried = [f.label for f in files] + ["the agent's keys"] * bool(in_agent)
        return errors.AuthRejected(f"{error}; tried: {', '.join(tried) or 'no key, as there is none'}")


def _start(words: Sequence[str], askpass: Askpass | None) -> Child:
    environment = dict(os.environ)
    # Without a terminal of its own ssh would open a window to ask where there is a desktop.
    environment |= {"SSH_ASKPASS_REQUIRE": "never"} if askpass is None else askpass.environment
    try:
        return Child(words, environment)
    except OSError as e:
        raise no_ssh(e) from e


def _begins(stream: socket.socket, askpass: Askpass | None, place: str, deadline: Deadline) -> bool:
    """Wait for the server's first byte, which is left there; False at the end without any. Meanwhile ssh is answered.

    Raises `errors.NoAnswer`.
    """
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    if askpass is not None:
        poll.register(askpass.question, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll(deadline.need(place) * 1000)]
        if stream.fileno() in ready:
            try:
                return bool(stream.recv(1, socket.MSG_PEEK))
            except ConnectionResetError:  # ssh ended, and had not read all
                return False
        if askpass is not None and ready:
            askpass.reply()
