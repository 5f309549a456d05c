"""A real server with names and a banner made for a terminal, through every command and the log of a mount."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hostile_names import NAMES, WORDS, dangerous
from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    place = tmp_path_factory.mktemp("server")
    banner = place / "banner"
    banner.write_bytes(WORDS.encode("utf-8", "surrogateescape") + b"\x9b\n")
    root = place / "root"
    for name in map(os.fsdecode, NAMES):
        for path in (root / name / f"{name}.pt", root / name / f"sub{name}" / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 100)
            settle(path)
        (root / name / "link").symlink_to(name + "nowhere")
    with Sshd(root, extra=[f"Banner {banner}"]) as sshd:
        yield sshd


class Client(Mounted):
    """Runs commands; each one's output is looked at."""

    def bytes_of(self, *words: str | bytes | Path, codes: tuple[int, ...] = (0,)) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "vfs", *words],
            env={**self.environment, "XDG_CACHE_HOME": str(self.place)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in codes, (words, done.stderr)
        assert b"unexpected" not in done.stderr
        assert dangerous(done.stderr) == "", words
        if words[0] != "cat":
            assert dangerous(done.stdout) == "", words
        return done.stdout

    def asks(self, command: str, *words: str | bytes | Path, codes: tuple[int, ...] = (0,)) -> bytes:
        return self.bytes_of(command, *self.server, "--accept-new-host-key", *words, codes=codes)


def test_commands_without_a_mount(server: Sshd, tmp_path: Path) -> None:
    client = Client(server, server.root, tmp_path)
    assert len(client.asks("ls", "-vv").splitlines()) == len(NAMES)
    found = json.loads(client.asks("ls", "--json"))
    assert {os.fsencode(row["name"]) for row in found} == set(NAMES)
    client.asks("pull", "--all", tmp_path / "out", "-vv")
    odd = NAMES[5]
    assert client.asks("cat", odd + b"/" + odd + b".pt") == b"x" * 100
    client.asks("pin", *NAMES, "-vv")
    client.asks("doctor", odd, codes=(0, 1))
    client.bytes_of("cache", "verify", "--cache-dir", client.cache)


def test_the_same_over_the_systems_ssh_with_its_banner(server: Sshd, tmp_path: Path) -> None:
    client = Client(server, server.root, tmp_path)
    client.asks("ls", "--transport=openssh", "-vv")
    client.asks("cat", "--transport=openssh", NAMES[5] + b"/none", codes=(1,))


def test_a_server_that_refuses_in_such_words(server: Sshd, tmp_path: Path) -> None:
    client = Client(server, server.root, tmp_path)
    kept = server.authorized_keys.read_text()
    server.authorized_keys.write_text("")
    try:
        for transport in ("paramiko", "openssh"):
            client.asks("ls", f"--transport={transport}", "-vv", codes=(1,))
            assert b"key" in client.asks("doctor", f"--transport={transport}", codes=(1,))
    finally:
        server.authorized_keys.write_text(kept)


@needs_fuse
def test_a_mount_its_status_and_its_log(server: Sshd, tmp_path: Path) -> None:
    client = Client(server, server.root, tmp_path, "-vv")
    with client as path:
        for name in map(os.fsdecode, NAMES):
            assert (path / name / f"{name}.pt").read_bytes() == b"x" * 100
            assert not (path / name / "link").exists()
        client.bytes_of("inspect", path / name / f"{name}.pt", codes=(0, 1))
        client.bytes_of("prefetch", *(path / os.fsdecode(name) for name in NAMES))
        client.bytes_of("pin", path / os.fsdecode(NAMES[0]) / "none", codes=(1,))
        client.bytes_of("status", "-vv")
        client.bytes_of("status", "--json")
    log = client.log.read_bytes()
    assert dangerous(log) == ""
