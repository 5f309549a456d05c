"""The user's ssh_config as `ssh` reads it: what `ssh` logs in with, both transports log in with.

Each configuration is tried with `ssh` itself first. `{…}` are replaced: see `Ground`.
"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.ssh_client import connected, ssh_agent
from tests.lab.sshd import Sshd, make_key
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh.fallback import FallbackDialer
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer

BOX = "Host box\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
KEY = "  IdentityFile {key}\n"
KNOWN = "  UserKnownHostsFile {known}\n"
REST = BOX + KEY + KNOWN
ALL = "\nHost *\n" + KEY + KNOWN
WAY = "HostName 127.0.0.1\n  Port {port}\n  User {user}\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration, files that it includes, and what the line says beside the host."""

    config: str
    files: dict[str, str] = field(default_factory=dict)
    options: tuple[tuple[str, str], ...] = ()
    host: str = "box"
    user: str | None = None
    only_ssh: bool = False
    """Whether paramiko has to leave it to ssh."""


BLOCKS = {
    "an alias": Case(REST),
    "patterns": Case("Host b?x other\n  " + WAY + ALL),
    "all but one": Case("Host !other *\n  " + WAY + ALL),
    "Match host": Case("Match host box\n  " + WAY + ALL),
    "Match originalhost": Case("Match originalhost box\n  " + WAY + ALL),
    "Match user": Case("Match user {user}\n  " + WAY + ALL, user="{user}"),
    "Match localuser": Case("Match localuser {user}\n  " + WAY + ALL),
    "Match exec": Case('Match exec "test %n = box"\n  ' + WAY + ALL),
    "Match negated": Case("Match !host other\n  " + WAY + ALL),
    "Match all": Case("Match all\n  " + WAY + ALL),
    "Match final": Case(REST + "Match final\n  Compression no\n"),
    "Include at the top": Case("Include {dir}/more\n" + ALL, {"more": BOX}),
    "Include of many": Case("Include {dir}/m*\n" + ALL, {"m1": "Host x\n  Port 1\n", "m2": BOX}),
    "Include within Host": Case("Host box\n  Include {dir}/more\n" + ALL, {"more": WAY}),
    "Include within another Host": Case("Host x\n  Include {dir}/no\n" + REST, {"no": "Port 1\n"}),
    "Include within Match": Case("Match host box\n  Include {dir}/more\n" + ALL, {"more": WAY}),
    "Include in an Include": Case(
        "Include {dir}/a\n" + ALL, {"a": "Host box\n  Include {dir}/b\n", "b": WAY}
    ),
    "the first value counts": Case(REST + "Host *\n  Port 1\n  User nobody-here\n"),
}

WORDS = {
    "comment behind a value": Case(BOX.replace("127.0.0.1", "127.0.0.1 # the box") + KEY + KNOWN),
    "equals sign": Case(REST.replace("Port ", "Port=").replace("User ", "User = ")),
    "quotes": Case(REST.replace("{key}", '"{key}"').replace("127.0.0.1", '"127.0.0.1"')),
    "tabs": Case(REST.replace("  ", "\t").replace("Port ", "Port\t")),
    "capitals": Case(REST.replace("HostName", "HOSTNAME").replace("IdentityFile", "identityFILE")),
    "no final line break": Case(REST.rstrip("\n")),
    "token in HostName": Case(REST.replace("box", "local").replace("127.0.0.1", "%hhost"), host="local"),
    "canonical name": Case(
        "CanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal yes\n" + REST
    ),
    "IgnoreUnknown": Case("IgnoreUnknown UseKeychain\n" + REST + "  UseKeychain yes\n"),
}

NAMES = {
    f"key named by {token}": Case(REST.replace("{key}", f"{{dir}}/by-{token}"), {f"by-{name}": "KEY"})
    for token, name in {
        "%u": getpass.getuser(),
        "%r": getpass.getuser(),
        "%h": "127.0.0.1",
        "%n": "box",
        "%k": "box",
        "%i": str(os.getuid()),
        "%l": socket.gethostname(),
        "%L": socket.gethostname().partition(".")[0],
        "%%": "%",
        "${ARTISYNC_TEST}": "variable",
    }.items()
} | {
    "key named by %p": Case(REST.replace("{key}", "{dir}/by-%p"), {"by-{port}": "KEY"}),
    "known hosts named by tokens": Case(
        BOX + KEY + "  UserKnownHostsFile {dir}/of-%n-%p\n", {"of-box-{port}": "KNOWN"}
    ),
    "known hosts with a blank": Case(
        BOX + KEY + '  UserKnownHostsFile "{dir}/known hosts" {dir}/none\n', {"known hosts": "KNOWN"}
    ),
}

KEYS = {
    "several keys": Case(REST + "  IdentityFile {dir}/none\n  IdentityFile {stranger}\n"),
    "public key, the private one in an agent": Case(BOX + KNOWN + "  IdentityFile {held}.pub\n"),
    "only the public key's own": Case(BOX + KNOWN + "  IdentityFile {held}.pub\n  IdentitiesOnly yes\n"),
    "the agent alone": Case(BOX + KNOWN + "  IdentityFile none\n"),
    "IdentityAgent with a variable": Case(BOX + KNOWN + "  IdentityAgent ${ARTISYNC_DIR}/agent\n"),
    "IdentityAgent as a variable": Case(BOX + KNOWN + "  IdentityAgent $ARTISYNC_AGENT\n"),
    "IdentityAgent by name": Case(BOX + KNOWN + "  IdentityAgent SSH_AUTH_SOCK\n"),
    "IdentityAgent none": Case(REST + "  IdentityAgent none\n"),
    "CertificateFile": Case(
        BOX + KNOWN + "  IdentityFile {vouched}\n  CertificateFile {dir}/cert.pub\n", only_ssh=True
    ),
    "certificate beside its key": Case(BOX + KNOWN + "  IdentityFile {beside}\n", only_ssh=True),
    "GSSAPI that comes to nothing": Case(REST + "  GSSAPIAuthentication yes\n"),
}

HOST_KEYS = {
    "GlobalKnownHostsFile": Case(BOX + KEY + "  UserKnownHostsFile none\n  GlobalKnownHostsFile {known}\n"),
    "two files": Case(BOX + KEY + "  UserKnownHostsFile {dir}/none {known}\n"),
    "HostKeyAlias": Case(
        BOX + KEY + "  HostKeyAlias rack-7\n  UserKnownHostsFile {dir}/rack\n",
        {"rack": "rack-7 {host_key}\n"},
    ),
    "StrictHostKeyChecking no": Case(
        BOX + KEY + "  StrictHostKeyChecking no\n  UserKnownHostsFile {dir}/none\n"
    ),
    "StrictHostKeyChecking accept-new": Case(
        BOX + KEY + "  StrictHostKeyChecking accept-new\n  UserKnownHostsFile {dir}/none\n"
    ),
    "nothing checked, nothing kept": Case(
        BOX + KEY + "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
    ),
    "NoHostAuthenticationForLocalhost": Case(BOX + KEY + "  NoHostAuthenticationForLocalhost yes\n"),
    "KnownHostsCommand": Case(
        BOX + KEY + "  UserKnownHostsFile none\n  KnownHostsCommand /bin/cat {known}\n", only_ssh=True
    ),
    "cert-authority": Case(
        BOX.replace("{port}", "{proven}") + KEY + "  UserKnownHostsFile {dir}/cas\n",
        {"cas": "CA"},
        only_ssh=True,
    ),
}

OURS = {
    keyword: Case(REST + f"  {keyword} {value}\n")
    for keyword, value in {
        "RemoteCommand": "tmux attach",
        "RequestTTY": "force",
        "StdinNull": "yes",
        "ForkAfterAuthentication": "yes",
        "LocalForward": "127.0.0.1:1 127.0.0.1:1",
        "PermitLocalCommand": "yes\n  LocalCommand echo here",
        "LogLevel": "QUIET",
        "BatchMode": "yes",
        "Compression": "yes",
        "ForwardAgent": "yes",
        "VisualHostKey": "yes",
        "ControlMaster": "auto\n  ControlPath {dir}/%C",
        "SetEnv": "LANG=C",
        "ConnectTimeout": "7",
        "MACs": "hmac-sha2-512\n  Ciphers aes256-ctr",
    }.items()
}

WAYS = {
    "ProxyCommand": Case(REST + "  ProxyCommand {relay} %h %p\n"),
    "ProxyCommand none": Case(REST + "  ProxyCommand none\nHost *\n  ProxyCommand false\n"),
    "ProxyJump": Case(REST + "  ProxyJump gate\nHost gate\n  " + WAY.replace("{port}", "{gate}") + ALL),
    "ProxyJump with a token": Case(
        REST + "  ProxyJump gate-of-%n\nHost gate-of-box\n  " + WAY.replace("{port}", "{gate}") + ALL
    ),
    "AddressFamily": Case(REST.replace("127.0.0.1", "localhost") + "  AddressFamily inet\n"),
    "BindAddress": Case(REST + "  BindAddress 127.0.0.1\n", only_ssh=True),
    "a cipher of ssh's alone": Case(REST + "  Ciphers chacha20-poly1305@openssh.com\n", only_ssh=True),
    "a key exchange": Case(REST + "  KexAlgorithms curve25519-sha256@libssh.org\n"),
    "HostName of the line": Case(ALL, options=(("HostName", "127.0.0.1"), ("Port", "{port}"))),
    "a jump host of the line": Case(REST + ALL, options=(("ProxyJump", "{user}@127.0.0.1:{gate}"),)),
}

CASES = BLOCKS | WORDS | NAMES | KEYS | HOST_KEYS | OURS | WAYS


class Ground:
    """Two servers, keys in every form, and an agent that holds one of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        authority, host = make_key(place / "ca"), make_key(place / "host")
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n"]
        subprocess.run([*sign, "127.0.0.1,box", "-h", f"{host}.pub"], check=True)
        self.server = Sshd(extra=[f"TrustedUserCAKeys {authority}.pub"])
        self.proven = Sshd(extra=[f"HostKey {host}", f"HostCertificate {host}-cert.pub"])
        self.gate = Sshd()
        names = ("held", "stranger", "vouched", "beside")
        keys = {name: make_key(place / name) for name in names}
        self.server.authorize(keys["held"])
        for other in (self.gate, self.proven):
            other.authorize(self.server.user_key)
        for name in ("vouched", "beside"):
            subprocess.run([*sign, self.server.user, f"{keys[name]}.pub"], check=True)
        (place / "vouched-cert.pub").rename(place / "cert.pub")
        known = place / "known_hosts"
        lines = self.server.host_line + self.gate.host_line
        known.write_text(lines + lines.replace("127.0.0.1", "localhost"))
        relay = place / "relay"
        relay.write_text(f"#!{sys.executable}\n{RELAY}")
        relay.chmod(0o700)
        self.replaced = {
            "dir": place,
            "user": self.server.user,
            "port": self.server.port,
            "gate": self.gate.port,
            "proven": self.proven.port,
            "key": self.server.user_key,
            "known": known,
            "relay": relay,
            "host_key": self.server.host_line.split(" ", 1)[1].strip(),
            **keys,
        }

    def fill(self, text: str) -> str:
        for name, value in self.replaced.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def write(self, case: Case) -> Path:
        """The configuration of a case, with its files beside it."""
        for name, text in case.files.items():
            file = self.place / self.fill(name)
            if text == "KEY":
                shutil.copy(self.server.user_key, file)
                file.chmod(0o600)
            elif text == "KNOWN":
                file.write_text(self.server.host_line)
            elif text == "CA":
                file.write_text(f"@cert-authority * {(self.place / 'ca.pub').read_text()}")
            else:
                file.write_text(self.fill(text))
        config = self.place / "config"
        config.write_text(self.fill(case.config))
        return config


RELAY = """
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    os.write(1, data)
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    place = tmp_path_factory.mktemp("ground")
    ground = Ground(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTISYNC_TEST", "variable")
        patch.setenv("ARTISYNC_DIR", str(place))
        patch.setenv("ARTISYNC_AGENT", str(place / "agent"))
        with ground.server, ground.gate, ground.proven, ssh_agent(place, patch, place / "held"):
            yield ground


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_ssh_logs_in_with_both_transports_log_in_with(
    ground: Ground, case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ground.write(case)
    user = None if case.user is None else ground.fill(case.user)
    options = [(name, ground.fill(value)) for name, value in case.options]
    words = ["ssh", "-F", str(config), "-oBatchMode=yes", "-oRequestTTY=no", "-oRemoteCommand=none"]
    words += [f"-o{name}={value}" for name, value in options] + (["-l", user] if user else [])
    done = subprocess.run(
        [*words, "-s", case.host, "sftp"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (ground.place / "none").unlink(missing_ok=True)
    address = Address.parse(
        ["ssh", *(f"-o{n}={v}" for n, v in options), *(["-l", user] if user else []), case.host]
    )
    ours = tmp_path / "ours"
    first, second = (kind(address, ours, ssh_config=config) for kind in (ParamikoDialer, OpensshDialer))
    with caplog.at_level(logging.WARNING):
        dialer = FallbackDialer(first, second, asked=False)
        for _ in range(1 + case.only_ssh):  # the second time it is known
            with connected(dialer):
                pass
    assert dialer.window_limited is case.only_ssh
    assert sum("the system's ssh makes" in line for line in caplog.messages) == case.only_ssh
    ours.unlink(missing_ok=True)
    with connected(OpensshDialer(address, ours, ssh_config=config)):
        pass


def new_host_key(ground: Ground, directory: Path, config: str) -> tuple[Path, Path]:
    """A configuration, and our known_hosts, that holds another key than the server's."""
    other = make_key(directory / "other")
    kind, blob = Path(f"{other}.pub").read_text().split()[:2]
    ours = directory / "ours"
    ours.write_text(f"[127.0.0.1]:{ground.server.port} {kind} {blob}\n")
    return ground.write(Case(BOX + KEY + config)), ours


@pytest.mark.parametrize("kind", [ParamikoDialer, OpensshDialer])
@pytest.mark.parametrize("setting", ["no", "accept-new"])
def test_a_changed_host_key_is_refused_however_lax_the_configuration_is(
    ground: Ground, tmp_path: Path, kind: type[ParamikoDialer | OpensshDialer], setting: str
) -> None:
    config, ours = new_host_key(ground, tmp_path, f"  StrictHostKeyChecking {setting}\n")
    for replace in (False, True):
        dialer = kind(Address("box"), ours, ssh_config=config, replace=replace)
        with pytest.raises(errors.HostKeyChanged), connected(dialer):
            pass


@pytest.mark.parametrize("kind", [ParamikoDialer, OpensshDialer])
def test_a_changed_host_key_is_taken_with_a_warning_where_none_is_to_be_kept(
    ground: Ground,
    tmp_path: Path,
    kind: type[ParamikoDialer | OpensshDialer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lax = "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
    config, ours = new_host_key(ground, tmp_path, lax)
    before = ours.read_text()
    with connected(kind(Address("box"), ours, ssh_config=config)):
        pass
    assert ours.read_text() == before
    assert any("not checked" in line for line in caplog.messages)


@pytest.mark.parametrize("kind", [ParamikoDialer, OpensshDialer])
def test_a_host_key_that_the_configuration_takes_is_warned_of_and_kept(
    ground: Ground,
    tmp_path: Path,
    kind: type[ParamikoDialer | OpensshDialer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = ground.write(HOST_KEYS["StrictHostKeyChecking no"])
    for _ in range(2):
        with connected(kind(Address("box"), tmp_path / "ours", ssh_config=config)):
            pass
    assert (tmp_path / "ours").exists()
    assert sum("accepted without asking" in line for line in caplog.messages) == 1
