"""`artisync doctor` against a real sshd: all is well, and each thing that can be wrong, made wrong for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import Client
from tests.lab.listener import black_hole, listener
from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd, make_key
from tests.lab.waiting import eventually
from vfs.base.address import Address
from vfs.base.places import config_dir
from vfs.base.profiles import DEFAULT_PROFILE, Profile, save_profile
from vfs.commands.doctor.examine import CHECKS
from vfs.remote.ssh.hostkeys import read_entries

Seen = dict[str, dict[str, Any]]
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for name in ("exp-1", "exp-2", "baseline"):
        (root / name / "logs").mkdir(parents=True)
        (root / name / "logs/console.log").write_text("hello\n")
        settle(root / name / "logs/console.log")
    return root


@pytest.fixture
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def client(server: Sshd, root: Path, tmp_path: Path) -> Client:
    """Somebody with a profile, as `artisync connect` leaves it."""
    client = Client(server, root, tmp_path)
    (tmp_path / "home").mkdir()
    client.environment |= {"HOME": str(tmp_path / "home")}
    client.environment.pop("SSH_AUTH_SOCK", None)
    options = {"cache_dir": str(client.cache), "transport": "paramiko"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", client.environment["XDG_CONFIG_HOME"])
        save_profile(Profile(DEFAULT_PROFILE, client.address, str(root), options))
        (config_dir() / "known_hosts").write_text(server.host_line)
    return client


def examined(client: Client, *words: str | Path, code: int) -> Seen:
    """What `artisync doctor --json` tells, by check."""
    done = client.artisync("doctor", "--json", *words)
    assert "Traceback" not in done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (code, code == 0), done.stdout
    assert [one["check"] for one in told["checks"]] == list(CHECKS)
    return {one["check"]: one for one in told["checks"]}


def at(client: Client, address: Address) -> list[str]:
    """The options that name another server."""
    line = replace(address, options=client.address.options).line()
    return ["--ssh", line, "--remote-root", str(client.root)]


def failure(seen: Seen) -> tuple[str, str, str]:
    """The one check that failed: its name, what was seen, what to do. What depends on it was not looked at."""
    [failed] = [one for one in seen.values() if one["result"] == "failed"]
    return failed["check"], failed["text"], failed["next"]


def results(seen: Seen, *checks: str) -> set[str]:
    return {seen[check]["result"] for check in checks}


# --- all is well --------------------------------------------------------------------------------------------------


@needs_fuse
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_all_is_well(client: Client, server: Sshd, root: Path, transport: str) -> None:
    done = client.artisync("doctor", "--transport", transport)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    # A dead mount that another test left on this machine would be worth a line of its own; not every kernel has NFS.
    checked = [line for line in lines[: len(CHECKS) - 1] if not line.startswith("– NFS")]
    assert {line[0] for line in checked} == {"✓"}, done.stdout
    said = dict(zip(CHECKS, (line[2:].lstrip() for line in lines), strict=False))
    assert f"127.0.0.1:{server.port} is open" in said["port"]
    assert "SSH-2.0-" in said["banner"]
    assert f"{root} can be read and holds 3 entries" in said["root"]
    assert "3 experiments; last change" in said["experiments"]
    assert "\x1b" not in done.stdout
    if transport == "paramiko":
        assert str(server.user_key) in said["login"]
    secret = server.user_key.read_text().splitlines()[2]
    assert secret not in done.stdout + done.stderr


def test_json_has_each_check_with_result_text_and_next_step(client: Client) -> None:
    seen = examined(client, code=0)
    for name, one in seen.items():
        assert set(one) == {"check", "result", "text", "next"}
        assert one["result"] in ("ok", "warning") or (name.lower() == "nfs" and one["result"] == "skipped")
        assert one["next"] is None or one["result"] == "warning"


def test_one_experiment_is_looked_at_by_itself(client: Client, root: Path) -> None:
    log = root / "exp-1/logs/console.log"
    os.utime(log, (time.time() - 190, time.time() - 190))
    assert examined(client, "exp-1", code=0)["experiments"]["text"].startswith("exp-1; last change 3 min ago")
    assert examined(client, "base", code=0)["experiments"]["text"].startswith(
        "baseline; last change 2023-11-14"
    )
    assert examined(client, "nothing", code=1)["read"]["text"] == "skipped (needs: experiments)"


def test_the_newest_file_may_be_empty(client: Client, root: Path) -> None:
    (root / "exp-1/logs/new.log").touch()
    assert examined(client, code=0)["read"]["text"] == "read 0 B of exp-1/logs/new.log"


def test_on_a_terminal_there_is_colour_and_lines_are_not_cut(client: Client) -> None:
    client.environment.pop("NO_COLOR", None)
    with client.at_terminal("doctor", "nothing", TERM="xterm", COLUMNS="60") as terminal:
        assert terminal.ended() == 1
    assert "\x1b[32m✓" in terminal.said
    assert "\x1b[1;31m✗" in terminal.said
    assert "`artisync wait EXPERIMENT` waits for it." in " ".join(terminal.said.split())


def test_on_a_terminal_a_passphrase_is_asked_for_and_told_nobody(client: Client, server: Sshd) -> None:
    key = make_key(client.place / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    with client.at_terminal("doctor", *at(client, replace(server.address, keys=(str(key),)))) as terminal:
        terminal.sees("Passphrase for the key")
        terminal.types(PASSPHRASE)
        assert terminal.ended() == 0
    assert str(key) in terminal.said.split("login")[1]
    assert PASSPHRASE not in terminal.said


def test_what_another_program_connects_is_said_not_to_be_seen(client: Client, server: Sshd) -> None:
    with Sshd() as gate:
        config = Path(client.environment["HOME"], ".ssh/config")
        config.parent.mkdir()
        config.write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.user_key}\n"
        )
        address = replace(server.address, jump=f"{gate.user}@gate")
        seen = examined(client, *at(client, address), "--accept-new-host-key", code=0)
    assert results(seen, "name", "route", "port", "banner") == {"skipped"}
    assert "through the jump host gate" in seen["port"]["text"]
    assert results(seen, "host_key", "login", "sftp", "root", "experiments") == {"ok"}


# --- the guide's list ---------------------------------------------------------------------------------------------


@contextmanager
def stopped(client: Client, server: Sshd) -> Iterator[list[str]]:
    server.stop()
    yield []


@contextmanager
def vpn_off(client: Client, server: Sshd) -> Iterator[list[str]]:
    with black_hole() as port:
        yield [*at(client, replace(server.address, port=port)), "--timeout", "1s"]


@contextmanager
def stranger(client: Client, server: Sshd) -> Iterator[list[str]]:
    key = make_key(client.place / "stranger")
    yield at(client, replace(server.address, keys=(str(key),)))


@contextmanager
def new_container(client: Client, server: Sshd) -> Iterator[list[str]]:
    server.stop()
    server.new_host_key()
    server.start()
    yield []


@contextmanager
def unknown_name(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield at(client, replace(server.address, host="no-such-host.invalid"))


@contextmanager
def no_sync_yet(client: Client, server: Sshd) -> Iterator[list[str]]:
    shutil.rmtree(client.root)
    yield []


@contextmanager
def empty_sync(client: Client, server: Sshd) -> Iterator[list[str]]:
    shutil.rmtree(client.root)
    client.root.mkdir()
    yield []


@contextmanager
def not_synced(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield ["exp-3"]


Trouble = Callable[[Client, Sshd], AbstractContextManager[list[str]]]

GUIDE: list[tuple[str, Trouble, str, str, str]] = [
    ("connection refused", stopped, "port", "refuses the connection", "Is the container running"),
    ("the VPN is not up", vpn_off, "port", "no answer in time", "wg"),
    ("host cannot be resolved", unknown_name, "name", "no-such-host.invalid", "VPN"),
    ("permission denied (publickey)", stranger, "login", "stranger (ED25519 SHA256:", "control panel"),
    (
        "remote host identification has changed",
        new_container,
        "host_key",
        "was ED25519",
        "--replace-host-key",
    ),
    ("sync not appearing: no directory", no_sync_yet, "root", "there is no", 'Click "sync"'),
    ("sync not appearing: nothing in it", empty_sync, "experiments", "no experiment", "artisync wait"),
    ("sync not appearing: not this one", not_synced, "experiments", "did you mean exp-", "artisync wait"),
]


@pytest.mark.parametrize(
    ("trouble", "check", "seen", "step"), [row[1:] for row in GUIDE], ids=[row[0] for row in GUIDE]
)
def test_each_trouble_of_the_guide_is_found_with_the_next_step(
    client: Client, server: Sshd, trouble: Trouble, check: str, seen: str, step: str
) -> None:
    with trouble(client, server) as words:
        told = examined(client, *words, code=1)
    failed, text, todo = failure(told)
    assert failed == check
    assert seen in text
    assert step in todo
    chain = CHECKS[CHECKS.index("name") : CHECKS.index("clock")]
    after = chain[chain.index(check) + 1 :]
    assert results(told, *after) <= {"skipped"}
    assert results(told, *chain[: chain.index(check)]) <= {"ok"}
    assert "skipped" not in results(told, "disk", "cache", "mounts")


def test_a_dead_server_is_told_in_lines_with_the_next_step_below(client: Client, server: Sshd) -> None:
    server.stop()
    done = client.artisync("doctor")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    [number] = [n for n, line in enumerate(lines) if line.startswith("✗")]
    assert lines[number].startswith("✗ port")
    assert lines[number + 1].strip().startswith("→ Nothing listens on that port")
    assert lines[number + 2].startswith("– SSH banner")
    assert "skipped (needs: port" in lines[number + 2]


# --- what listens there ---------------------------------------------------------------------------------------------


def web(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)


def too_many(connection: socket.socket) -> None:
    connection.sendall(b"Exceeded MaxStartups\r\n")
    connection.close()


@pytest.mark.parametrize(
    ("serve", "text", "step"),
    [
        (lambda connection: None, "does not answer", "panel's line"),
        (web, "'HTTP/1.1 400 Bad Request'", "panel's line"),
        (too_many, "Exceeded MaxStartups", "in a minute"),
        (socket.socket.close, "without a message", "in a minute"),
    ],
    ids=["silent", "web server", "too many connections", "hangs up"],
)
def test_what_does_not_greet_as_ssh_is_told(
    client: Client, server: Sshd, serve: Callable[[socket.socket], None], text: str, step: str
) -> None:
    began = time.monotonic()
    with listener(serve) as port:
        words = at(client, replace(server.address, port=port))
        failed, seen, todo = failure(examined(client, *words, "--timeout", "1s", code=1))
    assert failed == "banner"
    assert text in seen
    assert step in todo
    assert time.monotonic() - began < 10


def test_a_server_that_falls_silent_after_its_greeting_is_given_up_in_time(
    client: Client, server: Sshd
) -> None:
    began = time.monotonic()
    with listener(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")) as port:
        words = at(client, replace(server.address, port=port))
        failed, _, todo = failure(examined(client, *words, "--timeout", "1s", code=1))
    assert failed == "host_key"
    assert "container" in todo
    assert time.monotonic() - began < 10


def test_without_a_route_that_is_told(client: Client) -> None:
    alone = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user cannot have a network of its own")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "vfs", "doctor", "--json", "--ssh", "ssh me@10.1.2.3"],
        env=client.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    checks = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert checks["route"]["result"] == "failed"
    assert "unreachable" in checks["route"]["text"]
    assert "wg-quick up" in checks["route"]["next"]
    assert checks["port"]["result"] == "skipped"


# --- host keys and keys ---------------------------------------------------------------------------------------------


def test_the_login_comes_before_the_look_at_the_port(client: Client, server: Sshd) -> None:
    before = len(server.log)
    examined(client, code=0)
    log = server.log[before:]
    accepted = next(number for number, line in enumerate(log) if "Accepted publickey" in line)
    assert sum("Connection from" in line for line in log[:accepted]) == 1


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_an_unknown_host_key_is_shown_and_not_taken(client: Client, server: Sshd, transport: str) -> None:
    known = Path(client.environment["XDG_CONFIG_HOME"], "artisync/known_hosts")
    [entry] = read_entries(known)
    known.unlink()
    failed, text, todo = failure(examined(client, "--transport", transport, code=1))
    assert failed == "host_key"
    assert entry.key.fingerprint in text
    assert "--accept-new-host-key" in todo
    assert not known.exists()


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_locked_key_is_named_and_its_passphrase_is_not_asked_for_without_a_terminal(
    client: Client, server: Sshd, transport: str
) -> None:
    key = make_key(client.place / "locked", passphrase=PASSPHRASE)
    server.authorize(key)
    words = at(client, replace(server.address, keys=(str(key),)))
    failed, text, todo = failure(examined(client, *words, "--transport", transport, code=1))
    assert (failed, str(key) in text) == ("login", True)
    assert "ssh-add" in todo


def test_a_key_that_others_can_read_comes_with_the_remedy(client: Client, server: Sshd) -> None:
    server.user_key.chmod(0o644)
    failed, text, _ = failure(examined(client, code=1))
    assert failed == "login"
    assert f"chmod 600 {server.user_key}" in text


# --- what is there --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsystem", ["other /bin/true", "sftp /no/such/program"])
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_server_without_sftp_is_told(root: Path, tmp_path: Path, subsystem: str, transport: str) -> None:
    with Sshd(extra=[f"Subsystem {subsystem}"]) as server:
        client = Client(server, root, tmp_path)
        words = [*client.server, "--accept-new-host-key", "--transport", transport]
        seen = examined(client, *words, code=1)
    assert results(seen, "host_key", "login") == {"ok"}
    failed, _, todo = failure(seen)
    assert failed == "sftp"
    assert "Subsystem sftp internal-sftp" in todo


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_shell_that_prints_text_before_sftp_is_told(root: Path, tmp_path: Path, transport: str) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho Welcome to the cluster\nexec cat >/dev/null\n")
    chatty.chmod(0o755)
    with Sshd(extra=[f"Subsystem sftp {chatty}"]) as server:
        client = Client(server, root, tmp_path)
        words = [*client.server, "--accept-new-host-key", "--transport", transport]
        failed, _, todo = failure(examined(client, *words, code=1))
    assert failed == "sftp"
    assert "shell start-up file" in todo


def test_a_root_that_is_a_file_is_told(client: Client, root: Path) -> None:
    failed, text, todo = failure(examined(client, "--remote-root", root / "exp-1/logs/console.log", code=1))
    assert failed == "root"
    assert "not a directory" in text
    assert "--remote-root" in todo


def test_a_file_from_the_future_is_a_warning(client: Client, root: Path) -> None:
    later = time.time() + 7500
    os.utime(root / "exp-1/logs/console.log", (later, later))
    seen = examined(client, code=0)
    assert seen["clock"]["result"] == "warning"
    assert "2 h 4 min in the future" in seen["clock"]["text"] or "2 h 5 min" in seen["clock"]["text"]
    assert "timedatectl" in seen["clock"]["next"]


# --- the cache and the mounts -----------------------------------------------------------------------------------------


def test_a_cache_directory_that_is_a_file_is_told(client: Client) -> None:
    client.cache.write_text("in the way")
    failed, text, todo = failure(examined(client, code=1))
    assert failed == "cache"
    assert str(client.cache) in text
    assert "--cache-dir" in todo


def test_a_damaged_cache_is_told_and_left_as_it_is(client: Client) -> None:
    assert client.ask("pull", "exp-1", client.place / "out").returncode == 0
    assert examined(client, code=0)["cache"]["result"] == "ok"
    database = client.cache / "cache.db"
    damaged = b"\xff" * database.stat().st_size
    database.write_bytes(damaged)
    failed, _, todo = failure(examined(client, code=1))
    assert failed == "cache"
    assert f"rm {database}*" in todo
    assert database.read_bytes() == damaged


@needs_fuse
def test_mounts_are_told_live_offline_and_dead(server: Sshd, root: Path, tmp_path: Path) -> None:
    mounted = Mounted(server, root, tmp_path)
    words = [*mounted.server, "--accept-new-host-key"]
    with mounted:
        assert f"{mounted.path} is online" in examined(mounted, *words, code=0)["mounts"]["text"]
        server.stop()
        assert eventually(lambda: "is offline" in examined(mounted, *words, code=1)["mounts"]["text"], 20)
        server.start()
        [status] = json.loads(mounted.artisync("status", "--json", str(mounted.path)).stdout)["mounts"]
        try:
            os.kill(status["pid"], signal.SIGKILL)
            assert eventually(lambda: f"{mounted.path} is dead" in mounts_told(mounted, words)["text"], 20)
            seen = mounts_told(mounted, words)
        finally:
            mounted.artisync("unmount", "--force", str(mounted.path))
    assert seen["result"] == "warning"
    assert "`artisync unmount " in seen["next"]


def mounts_told(client: Client, words: list[str]) -> dict[str, Any]:
    return examined(client, *words, code=0)["mounts"]


def test_ctrl_c_ends_it_at_once(client: Client, server: Sshd) -> None:
    with vpn_off(client, server) as words:
        running = subprocess.Popen(
            [sys.executable, "-u", "-m", "vfs", "doctor", *words[:-1], "60s"],
            env=client.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stdout is not None
        while not running.stdout.readline().startswith("✓ route"):
            pass
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=10)
    assert (running.returncode, said.strip()) == (130, "")
