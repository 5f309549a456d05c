"""Reading a real sshd's files through fsspec: freshness, versions, few bytes over the wire, errors that tell, offline."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

import fsspec

from tests.lab.client import Client
from tests.lab.fsspec_client import home, storage_options
from tests.lab.mounted import write
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.frontends.fsspec import stacks

MIB = 1 << 20
QUIET = 512 << 10
"""Bytes that names, and a look at the rate of the path, may take on the wire."""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "artifacts") as server:
        yield server


@pytest.fixture
def client(sshd: Sshd, relay: Relay, tmp_path: Path) -> Iterator[Client]:
    client = Client(sshd, sshd.root, tmp_path, port=relay.port)
    with home(client):
        yield client


@pytest.fixture
def root(client: Client) -> Path:
    for name in ("exp-1", "exp-2"):
        write(client.root / name / "checkpoints/best_model.pt", os.urandom(3 * MIB))
        write(client.root / name / "logs/console.log", b"epoch 1\n" * 100)
    return client.root


@pytest.fixture
def fs(client: Client, root: Path) -> Any:
    return fsspec.filesystem("artisync", **storage_options(client, ttl="300ms"))


def test_a_url_is_read_with_the_default_profile(client: Client, root: Path) -> None:
    assert client.artisync("connect", "--help").returncode == 0
    save_profile(Profile("default", client.address, str(root), options={"accept_new_host_key": True}))
    with fsspec.open("artisync://exp-1/checkpoints/best_model.pt", cache_dir=client.cache) as file:
        assert file.read() == (root / "exp-1/checkpoints/best_model.pt").read_bytes()
    with fsspec.open("artisync://exp-1/logs/console.log", "rt", cache_dir=client.cache) as lines:
        assert next(lines) == "epoch 1\n"


def test_names_are_told_as_a_local_file_system_tells_them(fs: Any, root: Path) -> None:
    (root / "exp-1/checkpoints/latest.pt").symlink_to("best_model.pt")
    (root / "exp-2/again").symlink_to("checkpoints")
    (root / "exp-2/nowhere").symlink_to("no-such-file")
    local = fsspec.filesystem("file")
    for pattern in (
        "*",
        "exp-*/logs/*",
        "**/*.pt",
        "exp-1/**",
        "exp-?/checkpoints",
        "exp-1/checkpoints/best_model.pt",
    ):
        wanted = [os.path.relpath(path, root) for path in local.glob(str(root / pattern))]
        assert sorted(path.rstrip("/") for path in fs.glob(pattern)) == sorted(wanted), pattern
    assert fs.find("") == [os.path.relpath(path, root) for path in local.find(str(root))]
    assert fs.find("exp-1", maxdepth=1, withdirs=True) == ["exp-1", "exp-1/checkpoints", "exp-1/logs"]
    assert [(top, sorted(dirs), sorted(files)) for top, dirs, files in fs.walk("exp-2")] == [
        (os.path.relpath(top, root), sorted(dirs), sorted(files))
        for top, dirs, files in local.walk(str(root / "exp-2"))
    ]
    assert fs.du("exp-1") == local.du(str(root / "exp-1"))
    assert fs.isdir("exp-2/again")
    assert not fs.exists("exp-2/nowhere")
    info = fs.info("exp-1/checkpoints/latest.pt")
    assert (info["size"], info["type"]) == (3 * MIB, "file")
    assert fs.modified("exp-1/logs/console.log") == datetime.fromtimestamp(1_700_000_000, UTC)


def test_parts_of_files_are_read_at_once_and_as_slices(fs: Any, root: Path) -> None:
    data = [(root / name / "checkpoints/best_model.pt").read_bytes() for name in ("exp-1", "exp-2")]
    one, two = (f"artisync://{name}/checkpoints/best_model.pt" for name in ("exp-1", "exp-2"))
    assert fs.cat_file(one, -10) == data[0][-10:]
    assert fs.cat_file(one, 5, -MIB) == data[0][5:-MIB]
    assert fs.cat_ranges([one, two, one], [0, MIB, None], [9, MIB + 9, None]) == [
        data[0][:9],
        data[1][MIB : MIB + 9],
        data[0],
    ]
    found = fs.cat_ranges([one, "exp-1/none", "exp-1"], 0, 1)
    assert [type(part) for part in found] == [bytes, FileNotFoundError, IsADirectoryError]
    assert fs.cat([one, two]) == dict(zip(map(fs._strip_protocol, (one, two)), data, strict=True))
    assert set(fs.cat("exp-1", recursive=True)) == {
        "exp-1/checkpoints/best_model.pt",
        "exp-1/logs/console.log",
    }
    assert fs.cat([one, "exp-1/none"], on_error="omit") == {fs._strip_protocol(one): data[0]}
    assert fs.head(one, 7) == data[0][:7]
    assert fs.tail(one, 7) == data[0][-7:]


def test_an_open_file_is_a_buffered_reader(fs: Any, root: Path) -> None:
    data = (root / "exp-1/checkpoints/best_model.pt").read_bytes()
    with fs.open("exp-1/checkpoints/best_model.pt") as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.size, file.mode, file.tell()) == (len(data), "rb", 0)
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read(100) == data[-5:]
        assert file.read() == b""
        file.seek(MIB)
        buffer = bytearray(2 * MIB)
        assert file.readinto(buffer) == 2 * MIB
        assert buffer == data[MIB:]
        file.seek(0)
        assert file.read() == data
        with pytest.raises(OSError, match="Invalid argument"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_second_read_moves_no_data(fs: Any, client: Client, relay: Relay) -> None:
    fs.cat_file("exp-1/checkpoints/best_model.pt")
    before = relay.bytes_down()
    fs.cat_file("exp-1/checkpoints/best_model.pt")
    stacks.close()  # and what another process reads then, it finds on the disk
    with fs.open("exp-1/checkpoints/best_model.pt") as file:
        file.read()
    assert relay.bytes_down() - before < QUIET


def test_a_part_of_a_large_file_costs_a_part(fs: Any, root: Path, relay: Relay) -> None:
    write(root / "exp-1/checkpoints/large.bin", bytes(32 * MIB))
    fs.ls("exp-1/checkpoints")
    before = relay.bytes_down()
    assert fs.cat_file("exp-1/checkpoints/large.bin", -100) == bytes(100)
    assert relay.bytes_down() - before < MIB


def test_what_is_appended_is_read_by_an_open_file(fs: Any, root: Path) -> None:
    log = root / "exp-1/logs/console.log"
    with fs.open("exp-1/logs/console.log") as file:
        assert len(file.read()) == 800
        with log.open("ab") as appending:
            appending.write(b"epoch 2\n")
        assert eventually(lambda: file.read() == b"epoch 2\n")
        assert file.size == 808
    assert eventually(lambda: fs.info("exp-1/logs/console.log")["size"] == 808)
    assert fs.ls("exp-1/logs")[0]["size"] == 808


def test_a_handle_of_a_replaced_file_is_stale_and_a_new_one_reads_the_new_file(fs: Any, root: Path) -> None:
    path, name = root / "exp-1/checkpoints/large.bin", "exp-1/checkpoints/large.bin"
    write(path, b"1" * 48 * MIB)
    before = fs.ukey(name)
    with fs.open(name) as file:
        new = write(path.with_name("new"), b"2" * 12 * MIB)
        os.utime(new, (1_700_000_500, 1_700_000_500))
        os.replace(new, path)
        offsets = iter(range(0, 48 * MIB, MIB))

        def stale() -> bool:
            file.seek(next(offsets))
            try:
                assert file.read(10) == b"1" * 10
            except OSError as error:
                return error.errno == errno.ESTALE
            return False

        assert eventually(stale)
    assert fs.cat_file(name) == b"2" * 12 * MIB
    assert fs.ukey(name) != before


def test_new_and_removed_files_are_seen_within_the_ttl(fs: Any, root: Path) -> None:
    assert fs.ls("exp-1/logs", detail=False) == ["exp-1/logs/console.log"]
    write(root / "exp-1/logs/new.log", b"new")
    assert eventually(lambda: "exp-1/logs/new.log" in fs.ls("exp-1/logs", detail=False))
    (root / "exp-1/logs/new.log").unlink()
    assert eventually(lambda: not fs.exists("exp-1/logs/new.log"))


def test_failures_are_the_errors_that_a_local_file_raises(fs: Any) -> None:
    with pytest.raises(FileNotFoundError, match="exp-9/x"):
        fs.open("exp-9/x")
    with pytest.raises(FileNotFoundError):
        fs.ls("exp-1/none")
    with pytest.raises(NotADirectoryError):
        fs.info("exp-1/logs/console.log/x")
    with pytest.raises(IsADirectoryError):
        fs.open("exp-1/logs")
    assert fs.find("exp-9") == []
    assert list(fs.walk("exp-9")) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_permission_error(fs: Any, root: Path) -> None:
    (root / "exp-1/logs").chmod(0)
    try:
        with pytest.raises(PermissionError):
            fs.ls("exp-1/logs")
        assert "exp-1/checkpoints/best_model.pt" in fs.find("exp-1")
    finally:
        (root / "exp-1/logs").chmod(0o755)


def test_a_server_that_cannot_be_reached_is_not_an_absent_file(client: Client, relay: Relay) -> None:
    relay.refuse()
    fs = fsspec.filesystem("artisync", **storage_options(client, timeout="2s"))
    for ask in (fs.exists, fs.isdir, fs.ls, lambda path: list(fs.walk(path)), fs.find, fs.open):
        with pytest.raises(OSError, match="Is the container running") as caught:
            ask("exp-1")
        assert caught.value.errno == errno.EHOSTUNREACH


def test_offline_what_is_cached_is_read_and_the_rest_fails_in_time(
    client: Client, root: Path, relay: Relay
) -> None:
    fs = fsspec.filesystem("artisync", **storage_options(client, timeout="2s"))
    data = fs.cat_file("exp-1/checkpoints/best_model.pt")
    fs.find("")
    relay.refuse()
    relay.reset()
    for _ in ("in this process", "in one that begins offline"):
        with fs.open("exp-1/checkpoints/best_model.pt") as file:
            assert file.read() == data
        assert fs.ls("exp-2", detail=False) == ["exp-2/checkpoints", "exp-2/logs"]
        began = time.monotonic()
        with pytest.raises(OSError) as caught:
            fs.cat_file("exp-2/checkpoints/best_model.pt")
        assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)
        assert time.monotonic() - began < 6
        stacks.close()


def test_a_read_goes_on_over_a_lost_link(fs: Any, root: Path, relay: Relay) -> None:
    data = os.urandom(24 * MIB)
    write(root / "exp-1/checkpoints/large.bin", data)
    with fs.open("exp-1/checkpoints/large.bin") as file:
        start = file.read(MIB)
        relay.reset()
        assert start + file.read() == data


def test_a_new_container_is_followed_once_connect_has_saved_it(
    client: Client, root: Path, sshd: Sshd, relay: Relay
) -> None:
    profile = Profile("default", client.address, str(root), options={"accept_new_host_key": True})
    save_profile(profile)
    fs = fsspec.filesystem("artisync", cache_dir=client.cache, timeout="20s")
    with Relay(sshd.port) as other, fs.open("exp-1/checkpoints/best_model.pt") as file:
        relay.refuse()
        relay.reset()
        new: Address = replace(client.address, port=other.port)
        save_profile(replace(profile, address=new))
        assert file.read() == (root / "exp-1/checkpoints/best_model.pt").read_bytes()
        assert other.connections() > 0


def test_many_threads_read_at_once_over_one_stack(fs: Any, client: Client, root: Path, relay: Relay) -> None:
    files = {f"exp-1/data/{n}.bin": os.urandom(MIB + n) for n in range(24)}
    for name, data in files.items():
        write(root / name, data)

    def read(name: str) -> bytes:
        own = fsspec.filesystem("artisync", **storage_options(client, ttl="300ms"))  # of each thread
        with own.open(name) as file:
            return bytes(file.read())

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(read, files)) == list(files.values())
    assert relay.open_connections() <= 4
