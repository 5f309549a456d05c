"""SSH by the system's `ssh`: it runs as a child with SFTP on its pipes, and knows all of the user's set-up.

What we add to it: our own known_hosts before the user's, and questions to a person through `Prompter`. An
unknown host key is fetched first, by a login that offers no key, shown, and written to our file; the login
proper is always strict. Jump hosts are spelled out as ProxyCommands, so that the same holds for each of them.

Threads: `dial` may run on several at once. `_verified` and `_settings` are only added to.
"""

from __future__ import annotations

import base64
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh import ssh_errors
from vfs.remote.ssh.askpass import Askpass
from vfs.remote.ssh.child import Child
from vfs.remote.ssh.destination import Destination, place
from vfs.remote.ssh.hostkeys import HostKey, KnownHosts, host_name, read_entries
from vfs.remote.ssh.keyfiles import read_key_file
from vfs.remote.ssh.pipe_stream import PipeStream
from vfs.remote.ssh.prompts import Asking, Deadline
from vfs.remote.ssh.transport import Prompter, Transport

log = logging.getLogger(__name__)

_MAX_JUMPS = 8

_FIRM = (
    "LogLevel=INFO",  # below that, ssh does not always tell that it did not get through
    "StrictHostKeyChecking=yes",
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
"""What holds whatever the line or the user's file says: a plain, quiet, strict stream. A master connection
that is there is used, none is left behind."""

_PREFERRED = (
    "Compression=no",
    "Ciphers=^aes128-gcm@openssh.com",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
"""What holds unless the line says otherwise."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A host on the way, or the last one, with what `ssh -G` says of it."""

    address: Address
    host: str
    port: int
    key_name: str
    user: str
    known_hosts: tuple[Path, ...]
    key_files: tuple[Path, ...]
    jump: str
    proxy_command: bool

    @property
    def place(self) -> str:
        return place(self.host, self.port)


class OpensshDialer:
    """A `Dialer` over the system's ssh. `dial` returns once ssh runs; how it fared is known with the first
    byte."""

    window_limited = True
    login = ""
    """ssh does not tell."""

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
        """As for `ParamikoDialer`."""
        self._address = address
        self._known_hosts = known_hosts
        self._accept_new = accept_new
        self._replace = replace
        self._ssh_config = ssh_config
        self._asking = Asking(prompter)
        self._settings: dict[Address, Hop] = {}
        self._verified: set[str] = set()

    def destination(self, timeout: float) -> Destination:
        """As `Dialer.destination`."""
        *before, hop = self._route(self._address, Deadline(timeout))
        way = "a ProxyCommand" if hop.proxy_command else None
        if before:
            way = f"the jump host {before[-1].host}"
        return Destination(hop.host, hop.port, hop.user, hop.key_name, hop.known_hosts, by_way_of=way)

    def dial(self, timeout: float) -> Transport:
        """As `Dialer.dial`, but what fails at the login ends the stream with `Transport.error` set.

        Raises `errors.ConnectError`.
        """
        deadline = Deadline(timeout)
        route = self._route(self._address, deadline)
        for number in range(len(route)):
            self._verify(route, number, deadline)
        last = route[-1]
        words = [*self._command(route, len(route) - 1, deadline), "-s", "--", last.address.host, "sftp"]
        log.debug("running %s", shlex.join(words))
        askpass = self._askpass(deadline) if self._asking.somebody else None
        try:
            child = _start(words, subprocess.PIPE, askpass)
        except BaseException:
            if askpass is not None:
                askpass.close()
            raise
        return PipeStream(child, last.place, deadline, lambda said: self._error(said, route), askpass)

    # --- which hosts
    # ---------------------------------------------------------------------------------------------

    def _route(self, address: Address, deadline: Deadline, depth: int = 0) -> list[Hop]:
        """The hosts to pass, and the last one."""
        if depth > _MAX_JUMPS:
            raise errors.ConnectError(f"the jump hosts before {address.host} go round in a circle")
        hop = self._hop(address, deadline)
        try:
            jumps = Address.parse_jump(hop.jump)
        except errors.UsageError as e:
            raise errors.ConnectError(f"ProxyJump: {e}") from e
        if not jumps:
            return [hop]
        return [
            *self._route(jumps[0], deadline, depth + 1),
            *(self._hop(j, deadline) for j in jumps[1:]),
            hop,
        ]

    def _hop(self, address: Address, deadline: Deadline) -> Hop:
        known = self._settings.get(address)
        if known is not None:
            return known
        jump = ["-J", address.jump] if address.jump is not None else []
        words = [*self._ssh(), "-G", *jump, *_words_of(address), "--", address.host]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=deadline.need(address.host),
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise errors.ConnectError("ssh takes too long to read its configuration (a `Match exec`?)") from e
        except OSError as e:
            raise _no_ssh(e) from e
        if done.returncode != 0:
            raise ssh_errors.error_of(done.stderr.decode("utf-8", "replace"), address.host)
        hop = _parse_settings(address, done.stdout.decode("utf-8", "replace"))
        self._settings[address] = hop
        return hop

    # --- which commands
    # ------------------------------------------------------------------------------------------

    def _ssh(self) -> list[str]:
        return ["ssh"] if self._ssh_config is None else ["ssh", "-F", str(self._ssh_config)]

    def _command(
        self, route: Sequence[Hop], number: int, deadline: Deadline, firm: Sequence[str] = ()
    ) -> list[str]:
        """ssh to the hop of that number, through those before it; its host and what to do there are to
        follow.

        `firm` are options that win over all others.
        """
        hop = route[number]
        files = " ".join(_config_quote(f) for f in (self._known_hosts, *hop.known_hosts))
        options = [
            *firm,
            *_FIRM,
            f"BatchMode={'no' if self._asking.somebody else 'yes'}",
            f"UserKnownHostsFile={files}",
        ]
        if number > 0:
            options.append(f"ProxyCommand={self._proxy_command(route, number - 1, deadline)}")
        elif hop.address.jump is not None:
            options.append("ProxyJump=none")
        later = [*_PREFERRED, f"ConnectTimeout={max(1, int(deadline.left))}"]
        return [
            *self._ssh(),
            "-Tax",
            *(f"-o{o}" for o in options),
            *_words_of(hop.address),
            *(f"-o{o}" for o in later),
        ]

    def _proxy_command(self, route: Sequence[Hop], number: int, deadline: Deadline) -> str:
        words = [*self._command(route, number, deadline), "--", route[number].address.host]
        # `%h` and `%p` are for the ssh that runs this; every other percent sign is meant as it is.
        quoted = [shlex.quote(w.replace("%", "%%")) for w in words]
        return " ".join([*quoted[:-2], "-W", "'[%h]:%p'", *quoted[-2:]])

    # --- host keys
    # -----------------------------------------------------------------------------------------------

    def _verify(self, route: Sequence[Hop], number: int, deadline: Deadline) -> None:
        """See that the hop's host key is one that ssh will find in a file, asking if need be."""
        hop = route[number]
        if hop.key_name in self._verified:
            return
        known = KnownHosts(self._known_hosts, hop.known_hosts)
        entries = [e for e in known.entries(hop.key_name) if e.marker != "@revoked"]
        if self._replace or not entries:
            for key in self._fetch_key(route, number, known.kinds(hop.key_name), deadline):
                self._verify_key(known, hop.key_name, key, deadline)
        self._verified.add(hop.key_name)

    def _verify_key(self, known: KnownHosts, name: str, key: HostKey, deadline: Deadline) -> None:
        self._asking.about_host_key(
            deadline,
            lambda person: known.verify(
                name, key, prompter=person, accept_new=self._accept_new, replace=self._replace
            ),
        )

    def _fetch_key(
        self, route: Sequence[Hop], number: int, kinds: Sequence[str], deadline: Deadline
    ) -> list[HostKey]:
        """The key that the hop shows, from a login that gives nothing away. Raises `errors.ConnectError`."""
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
                firm.append(f"HostKeyAlgorithms=^{','.join(_algorithms(kinds))}")
            words = [*self._command(route, number, deadline, firm), "-s", "--", hop.address.host, "sftp"]
            child = _start(words, subprocess.DEVNULL, None)
            ended = child.wait(deadline.left)
            child.close()
            keys = [e.key for e in read_entries(file) if not e.marker]
        if keys:
            return keys
        if not ended:
            raise errors.NoAnswer(f"no answer from {hop.place} in time")
        raise ssh_errors.error_of(child.words(), hop.place)

    # --- logging in
    # ----------------------------------------------------------------------------------------------

    def _askpass(self, deadline: Deadline) -> Askpass | None:
        last: dict[str, str | None] = {}

        def answer(key: str, again: bool) -> str | None:
            last[key] = self._asking.passphrase(deadline, key, wrong=last.get(key) if again else None)
            return last[key]

        try:
            return Askpass(answer)
        except OSError as e:
            log.warning("ssh cannot be told a passphrase: %s", e)
            return None

    def _error(self, said: str, route: Sequence[Hop]) -> errors.ConnectError:
        """What went wrong, with what we know of the keys."""
        error = ssh_errors.error_of(said, route[-1].place)
        if type(error) is not errors.AuthRejected:
            return error
        files = [read_key_file(path) for hop in route for path in hop.key_files]
        files = [f for f in files if f.text]
        in_agent = _agent_blobs()
        locked = [str(f.path) for f in files if f.encrypted and f.blob not in in_agent]
        if locked:
            return errors.PassphraseNeeded(f"the key {locked[0]} is locked with a passphrase ({error})")
        tried = [f.label for f in files] + ["the agent's keys"] * bool(in_agent)
        return errors.AuthRejected(f"{error}; tried: {', '.join(tried) or 'no key, as there is none'}")


def _start(words: Sequence[str], pipes: int, askpass: Askpass | None) -> Child:
    environment = dict(os.environ)
    # Without a terminal of its own ssh would open a window to ask where there is a desktop.
    environment |= {"SSH_ASKPASS_REQUIRE": "never"} if askpass is None else askpass.environment
    try:
        return Child(words, stdin=pipes, stdout=pipes, env=environment)
    except OSError as e:
        raise _no_ssh(e) from e


def _no_ssh(e: OSError) -> errors.ConnectError:
    if isinstance(e, FileNotFoundError):
        return errors.ConnectError("there is no `ssh` on this machine (Debian: openssh-client)")
    return errors.ConnectError(f"`ssh` cannot be run: {e.strerror}")


def _words_of(address: Address) -> list[str]:
    """The address as options of ssh, but for its jump host and its host."""
    words: list[str] = []
    if address.port is not None:
        words += ["-p", str(address.port)]
    if address.user is not None:
        words += ["-l", address.user]
    for key in address.keys:
        words += ["-i", key]
    for name, value in address.options:
        words.append(f"-o{name}={value}")
    return words


def _parse_settings(address: Address, printed: str) -> Hop:
    """Read the output of `ssh -G`: a keyword in small letters and its value on each line."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)

    def one(name: str, default: str) -> str:
        return found.get(name, [default])[0]

    host, port = one("hostname", address.host), int(one("port", "22"))
    user_files = one("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    system_files = one("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
    known_hosts = [f for f in (*user_files, *system_files) if f not in ("none", "/dev/null")]
    return Hop(
        address=address,
        host=host,
        port=port,
        key_name=host_name(host, port, found["hostkeyalias"][0] if "hostkeyalias" in found else None),
        user=one("user", address.user or ""),
        known_hosts=tuple(Path(f).expanduser() for f in known_hosts),
        key_files=tuple(Path(f).expanduser() for f in found.get("identityfile", []) if f != "none"),
        jump=one("proxyjump", "none"),
        proxy_command=one("proxycommand", "none") != "none",
    )


def _config_quote(file: Path) -> str:
    """A file's name inside an option of ssh_config(5), where `%` and `${` are special, and blanks
    separate."""
    name = str(file).replace("%", "%%")
    return f'"{name}"' if " " in name else name


def _algorithms(kinds: Sequence[str]) -> list[str]:
    return [a for k in kinds for a in (("rsa-sha2-512", "rsa-sha2-256") if k == "ssh-rsa" else (k,))]


def _agent_blobs() -> set[bytes]:
    """The public keys that the agent holds."""
    program = shutil.which("ssh-add")
    if program is None:
        return set()
    try:
        done = subprocess.run(
            [program, "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    blobs = set()
    for line in done.stdout.splitlines() if done.returncode == 0 else []:
        try:
            blobs.add(base64.b64decode(line.split()[1], validate=True))
        except (IndexError, ValueError):
            log.debug("ssh-add prints a line that is no key: %r", line)
    return blobs
