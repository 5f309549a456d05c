"""libnfs (Debian: libnfs-utils), a client that is not the kernel's, against the export of a real server's files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import write
from tests.lab.nfs_exported import Exported
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.skipif(shutil.which("nfs-ls") is None, reason="no libnfs (Debian: libnfs-utils)")

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    write(root / "small.txt", b"small\n")
    write(root / "big.bin", os.urandom((24 << 20) + 5))
    write(root / "empty", b"")
    write(root / "exp/logs/console.log", b"x")
    for number in range(1500):
        write(root / f"file-{number:04}-{'n' * (number % 50)}", b"")
    return root


@pytest.fixture
def exported(sshd: Sshd, root: Path, tmp_path: Path) -> Iterator[Exported]:
    with Exported(sshd, root, tmp_path) as exported:
        yield exported


def libnfs(program: str, *words: str, user: int | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *words], capture_output=True, timeout=60, check=False, user=user, cwd="/")


def test_files_are_listed_and_read(exported: Exported, root: Path, tmp_path: Path) -> None:
    shown = libnfs("nfs-ls", "-R", exported.url(""))
    assert shown.returncode == 0, shown.stderr
    names = {line.split()[-1].rpartition("/")[2] for line in shown.stdout.decode().splitlines()}
    assert {"small.txt", "big.bin", "empty", "exp", "logs", "console.log"} <= names
    assert libnfs("nfs-cat", exported.url("small.txt")).stdout == b"small\n"
    assert libnfs("nfs-cat", exported.url("empty")).stdout == b""
    copied = libnfs("nfs-cp", exported.url("big.bin"), str(tmp_path / "copy"))
    assert copied.returncode == 0, copied.stderr
    assert (
        hashlib.sha256((tmp_path / "copy").read_bytes()).digest()
        == hashlib.sha256((root / "big.bin").read_bytes()).digest()
    )


def test_a_long_listing_is_whole(exported: Exported, root: Path) -> None:
    shown = libnfs("nfs-ls", exported.url(""))
    assert shown.returncode == 0, shown.stderr
    names = sorted(line.split()[-1] for line in shown.stdout.decode().splitlines())
    assert names == sorted(os.listdir(root))


def test_nothing_can_be_written(exported: Exported, root: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "new", b"x")
    assert libnfs("nfs-cp", str(source), exported.url("new")).returncode != 0
    assert not (root / "new").exists()


def test_what_a_mount_shows_opens_nothing_for_anybody(exported: Exported) -> None:
    path = exported.path()
    assert libnfs("nfs-cat", exported.url("small.txt", path)).stdout == b"small\n"
    for seen in (path, "/", "/artisync", path.rpartition("/")[0], path[:-1]):
        for user in (NOBODY, 0) if os.getuid() == 0 else (None,):
            done = libnfs("nfs-cat", exported.url("small.txt", seen), user=user)
            assert done.returncode != 0
            assert b"small" not in done.stdout
            done = libnfs("nfs-ls", exported.url("", seen), user=user)
            assert b"small" not in done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user")
def test_another_user_with_a_good_path_gets_nothing_from_an_export_for_one(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    with Exported(sshd, root, tmp_path, everybody=False) as exported:
        done = libnfs("nfs-cat", exported.url("small.txt"), user=NOBODY)
        assert done.returncode != 0
        assert done.stdout == b""
        assert libnfs("nfs-cat", exported.url("small.txt")).stdout == b"small\n"


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user")
def test_a_client_on_a_port_that_any_user_may_have_is_refused_where_the_systems_has_a_better_one(
    sshd: Sshd, root: Path, tmp_path: Path
) -> None:
    with Exported(sshd, root, tmp_path, privileged=True) as exported:
        done = libnfs("nfs-cat", exported.url("small.txt"), user=NOBODY)
        assert done.returncode != 0
        assert done.stdout == b""
        assert libnfs("nfs-cat", exported.url("small.txt")).stdout == b"small\n"
