"""One contract for every server: what a mount, a `pull`, a `cat --follow` and `doctor` do over each.

CI runs it over `kinds.FAST`; `scripts/servers` over all, with `ARTISYNC_SERVERS` naming the place of those that it installed,
and what a mount does by sshfs as well, for comparison. `conftest.py` makes a table of the results.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import sftp_filter
from tests.lab.mounted import Mounted, needs_fuse, settle, write
from tests.lab.waiting import eventually
from tests.servers.kinds import FAST, KINDS, TALK, OpenSsh, Server, talking

pytestmark = needs_fuse

ALL = "ARTISYNC_SERVERS" in os.environ
LARGE = (300 if ALL else 24) << 20
"""Bytes of the large file."""
SMALL = 60
UNICODE = "ünïcode"
ODD = ["with space", "new\nline", "tab\there", "-dash", "quote'\"", "x" * 255]
NO_UTF8 = "\udcff\udcfe"
MANGLED = {"paramiko", "twisted", "ssh2", "rclone", "asyncssh", "erlang"}
"""Servers that cannot say a name that is no UTF-8, and may fail or hang up for it."""


class World:
    """A server, and its root mounted."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.server: Server = KINDS[name](place)
        self.root = self.server.root
        self.place = place
        self.odd = ODD if name == "twisted" else [UNICODE, *ODD]  # Conch's server takes ASCII alone
        if name == "rclone":  # which has pictures for control characters
            self.odd = [odd for odd in self.odd if odd.isprintable()]

    def fill(self) -> None:
        """What the tests read; nobody is writing it."""
        write(self.root / "exp-1/checkpoints/last.bin", os.urandom(100_000))
        for number in range(SMALL):
            write(self.root / f"exp-1/small/{number}", b"%d" % number * 100)
        for name in self.odd:
            write(self.root / "exp-1/odd" / name, os.fsencode(name))
        write(self.root / "bytes" / NO_UTF8, b"no text")
        (self.root / "exp-1/empty").mkdir()
        links = self.root / "exp-1/links"
        links.mkdir()
        for name, text in {
            "inside": "../checkpoints/last.bin",
            "absolute": str(self.server.remote_root / "exp-1/checkpoints/last.bin"),
            "directory": "../small",
            "twice": "inside",
            "through": "directory/../checkpoints/last.bin",
            "dangling": "nothing",
            "loop": "loop",
        }.items():
            (links / name).symlink_to(text)
        large = self.root / "exp-1/large.bin"
        chunk = random.Random(1).randbytes(1 << 20)
        with large.open("wb") as file:
            for number in range(LARGE >> 20):
                file.write(number.to_bytes(8) + chunk[8:])
        settle(large)

    def __enter__(self) -> World:
        self.fill()
        self.server.start()
        try:
            self.path = self.mount()
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.unmount()
        finally:
            self.server.stop()
            for place in (self.root, self.place / "cache"):
                shutil.rmtree(place, ignore_errors=True)

    def mount(self) -> Path:
        options = ("--transport", self.server.transport, "--ttl", "500ms")
        self.mounted = Mounted(self.server, self.server.remote_root, self.place, *options)  # type: ignore[arg-type]
        return self.mounted.mount()

    def unmount(self) -> None:
        self.mounted.unmount()
        assert "Traceback" not in self.mounted.log.read_text()


class SshfsWorld(World):
    """The same, mounted by sshfs."""

    def mount(self) -> Path:
        path = self.place / "sshfs"
        path.mkdir()
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        options += ["reconnect", "dcache_timeout=1"]
        usage = subprocess.run(["sshfs", "--help"], capture_output=True, text=True, check=False).stdout
        if "no_contain_symlinks" in usage:  # else Debian's refuses links with ".."
            options.append("no_contain_symlinks")
        place = f"{self.server.user}@127.0.0.1:{self.server.remote_root}"
        words = ["sshfs", "-p", str(self.server.port), place, str(path)]
        key = f"IdentityFile={self.server.user_key}"
        try:
            subprocess.run([*words, *(f"-o{o}" for o in (*options, key))], check=True, timeout=30)
        except subprocess.TimeoutExpired:
            subprocess.run(["fusermount3", "-uz", str(path)], check=False, capture_output=True)
            raise
        return path

    def unmount(self) -> None:
        subprocess.run(["fusermount3", "-uz", str(self.path)], check=True, timeout=30)


def worlds() -> list[Any]:
    """A parameter for each world: its kind, and by what it is mounted."""
    if not ALL:
        return [pytest.param((name, "artisync"), id=name) for name in FAST]
    compared = pytest.mark.xfail(reason="to compare with", strict=False)
    return [
        param
        for name in KINDS
        for param in (
            pytest.param((name, "artisync"), id=name),
            pytest.param((name, "sshfs"), id=f"{name}, by sshfs", marks=compared),
        )
    ]


@pytest.fixture(scope="module", params=worlds())
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    name, client = request.param
    with (World if client == "artisync" else SshfsWorld)(name, tmp_path_factory.mktemp("server")) as world:
        yield world


@pytest.fixture
def ours(world: World) -> World:
    """For what is asked of artisync alone."""
    if isinstance(world, SshfsWorld):
        pytest.skip("sshfs has no such thing")
    return world


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_the_tree_is_there_with_odd_names_and_empty_directories(world: World) -> None:
    shown = world.path / "exp-1"
    assert sorted(os.listdir(shown)) == sorted(os.listdir(world.root / "exp-1"))
    assert os.listdir(shown / "empty") == []
    assert sorted(os.listdir(shown / "odd")) == sorted(world.odd)
    for name in world.odd:
        assert (shown / "odd" / name).read_bytes() == os.fsencode(name)
    for name in os.listdir(shown / "small"):
        there, here = os.stat(world.root / "exp-1/small" / name), os.stat(shown / "small" / name)
        assert (here.st_size, int(here.st_mtime)) == (there.st_size, int(there.st_mtime))
        assert stat.S_IMODE(here.st_mode) == stat.S_IMODE(there.st_mode) & ~(
            0 if isinstance(world, SshfsWorld) else 0o222
        )


def test_a_name_that_is_no_text_is_trouble_of_its_directory_at_most(world: World) -> None:
    if world.name in MANGLED:
        with contextlib.suppress(OSError):
            os.listdir(world.path / "bytes")
        with contextlib.suppress(OSError):
            (world.path / "bytes" / NO_UTF8).read_bytes()
    else:
        assert os.listdir(world.path / "bytes") == [NO_UTF8]
        assert (world.path / "bytes" / NO_UTF8).read_bytes() == b"no text"
    assert eventually(lambda: sorted(os.listdir(world.path / "exp-1/odd")) == sorted(world.odd))


def test_many_small_files_are_read_and_the_directory_listed_afterwards(world: World) -> None:
    for number in range(SMALL):
        assert (world.path / f"exp-1/small/{number}").read_bytes() == b"%d" % number * 100
    assert sorted(os.listdir(world.path / "exp-1/odd")) == sorted(world.odd)


def test_links_lead_where_they_lead_on_the_server(world: World) -> None:
    links, wanted = world.path / "exp-1/links", digest(world.root / "exp-1/checkpoints/last.bin")
    names = ["inside", "twice", "absolute"]
    if world.name != "proftpd":  # which tells another text than the link's
        names.append("through")
    for name in names:
        assert digest(links / name) == wanted, name
    assert sorted(os.listdir(links / "directory")) == sorted(os.listdir(world.root / "exp-1/small"))
    told = world.name != "as if: no-readlink"  # by nothing else
    for name, number in (("dangling", errno.ENOENT), ("loop", errno.ELOOP if told else errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            (links / name).read_bytes()
        assert caught.value.errno == number, name


@pytest.mark.timeout(600)  # the slowest servers send 2 MB/s
def test_a_large_file_is_read_whole(world: World) -> None:
    assert digest(world.path / "exp-1/large.bin") == digest(world.root / "exp-1/large.bin")


def test_what_is_denied_is_denied_alone(world: World) -> None:
    secret = write(world.root / "denied/secret", b"secret")
    secret.chmod(0)
    try:
        shown = world.path / "denied/secret"
        assert eventually(shown.exists)
        with pytest.raises(PermissionError):
            shown.read_bytes()
        assert (world.path / "exp-1/small/1").read_bytes() == b"1" * 100
    finally:
        shutil.rmtree(secret.parent)


def test_a_checkpoint_is_loaded(world: World) -> None:
    torch = pytest.importorskip("torch")
    path = world.root / "exp-1/checkpoints/model.pt"
    torch.save({"weight": torch.arange(100_000)}, path)
    settle(path)
    assert eventually(lambda: "model.pt" in os.listdir(world.path / "exp-1/checkpoints"))
    for mapped in (False, True):
        loaded = torch.load(world.path / "exp-1/checkpoints/model.pt", mmap=mapped)
        assert int(loaded["weight"].sum()) == 99_999 * 50_000


def test_a_file_that_grows_is_shown_to_who_has_it_open(world: World) -> None:
    log = write(world.root / "exp-1/train.log", b"begun\n")
    assert eventually(lambda: (world.path / "exp-1/train.log").exists())
    with (world.path / "exp-1/train.log").open("rb") as shown:
        assert shown.read() == b"begun\n"
        for line in (b"one", b"two, which is longer\n", b"three"):
            with log.open("ab") as file:
                file.write(line)
            come = bytearray()

            def all_there(come: bytearray = come, line: bytes = line) -> bool:
                come.extend(shown.read())
                return bytes(come) == line

            assert eventually(all_there, 10), come


def test_what_is_replaced_and_removed_is(world: World) -> None:
    path, shown = world.root / "exp-1/replaced", world.path / "exp-1/replaced"
    write(path, b"first version" * 1000)
    assert eventually(lambda: shown.exists())
    assert shown.read_bytes() == b"first version" * 1000
    new = write(world.root / "exp-1/new", b"second" * 500)
    os.utime(new, (1_700_000_100, 1_700_000_100))
    new.rename(path)
    assert eventually(lambda: shown.read_bytes() == b"second" * 500, 10)
    path.unlink()
    assert eventually(lambda: not shown.exists(), 10)


@pytest.mark.timeout(600)
def test_pull_brings_everything_and_says_so(ours: World, tmp_path: Path) -> None:
    done = ours.mounted.ask("pull", "exp-1", tmp_path / "copy", timeout=500)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "copy/exp-1"
    for name in ("large.bin", "checkpoints/last.bin", "small/7", "links/inside", "links/twice"):
        assert digest(copy / name) == digest(ours.root / "exp-1" / name), name


def test_what_is_appended_is_followed(ours: World) -> None:
    log = write(ours.root / "exp-1/follow.log", b"1\n")
    program = ours.mounted.start("cat", "--follow", "exp-1/follow.log")
    try:
        assert program.stdout is not None
        for line in ("1\n", "22\n", "333\n"):
            if line != "1\n":
                with log.open("a") as file:
                    file.write(line)
            assert program.stdout.readline() == line
    finally:
        program.terminate()
        program.communicate(timeout=20)


def test_a_restart_of_the_server_is_outlasted(ours: World) -> None:
    cached = ours.path / "exp-1/small/3"
    assert cached.read_bytes() == b"3" * 100
    write(ours.root / "exp-1/later", b"later" * 100)
    ours.server.stop()
    try:
        assert cached.read_bytes() == b"3" * 100
    finally:
        ours.server.start()
    assert eventually(lambda: (ours.path / "exp-1/later").exists(), 30)
    assert (ours.path / "exp-1/later").read_bytes() == b"later" * 100


def test_doctor_finds_nothing_wrong(ours: World) -> None:
    done = ours.mounted.ask("doctor", "--json")
    found = json.loads(done.stdout)
    checks = found["checks"] if isinstance(found, dict) else found
    wrong = [one for one in checks if one["result"] in ("failed", "warning")]
    wrong = [one for one in wrong if one["check"] not in ("disk", "mounts")]  # which are this machine's
    assert wrong == []


def test_it_comes_up_from_the_cache_though_listing_fails_at_first(tmp_path: Path) -> None:
    """Once: as a full disk, or a file system that is not mounted yet, has it."""
    switch = tmp_path / "failing"
    rule = f"no-listings@{switch}"
    server = OpenSsh(tmp_path, f"Subsystem sftp {sys.executable} -I -S {sftp_filter.__file__} {rule}")
    write(server.root / "f", b"cached")
    server.start()
    try:
        mounted = Mounted(server, server.root, tmp_path)  # type: ignore[arg-type]
        with mounted as path:
            assert (path / "f").read_bytes() == b"cached"
            os.listdir(path)
        switch.touch()
        with mounted as path:
            switch.unlink()
            assert eventually(lambda: _listed(path) == ["f"], 10)
            assert (path / "f").read_bytes() == b"cached"
    finally:
        server.stop()


@pytest.mark.skipif(not ALL, reason="test_doctor has it for CI")
@pytest.mark.parametrize("kind", ["openssh, a shell that prints at login"])
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_what_a_shell_prints_at_login_is_in_the_message(kind: str, transport: str, tmp_path: Path) -> None:
    server = talking(tmp_path)
    server.start()
    try:
        mounted = Mounted(server, server.root, tmp_path, "--transport", transport)  # type: ignore[arg-type]
        done = mounted.artisync("mount", *mounted.words, str(mounted.path))
    finally:
        server.stop()
    assert done.returncode != 0
    assert TALK in done.stderr


def _listed(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
