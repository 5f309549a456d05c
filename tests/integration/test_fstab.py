"""A line of /etc/fstab, mounted by the real mount(8)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

HELPER = Path("/sbin/mount.artisync")

pytestmark = [
    needs_fuse,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may add a helper of mount(8)"),
    pytest.mark.skipif(shutil.which("mount") is None, reason="no mount(8) on this machine"),
]


@pytest.fixture
def helper() -> Iterator[None]:
    """Our program where mount(8) looks for it."""
    try:
        fd = os.open(HELPER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except OSError as error:
        pytest.skip(f"{HELPER} cannot be made: {error.strerror}")
    try:
        with os.fdopen(fd, "w") as script:
            script.write(f'#!/bin/sh\nexec "{sys.executable}" -P -c "{MAIN}" "$@"\n')
        os.chmod(HELPER, 0o755)
        yield
    finally:
        HELPER.unlink()


@contextmanager
def stranger(sshd: Sshd) -> Iterator[None]:
    """Nothing is known of the server before and after: mount(8) has root's own home, whatever `HOME` says."""
    forget = ["ssh-keygen", "-R", f"[127.0.0.1]:{sshd.port}"]
    subprocess.run(forget, capture_output=True, check=False)
    yield
    subprocess.run(forget, capture_output=True, check=False)


MAIN = "from vfs.cli.fstab import main; main()"


@pytest.mark.usefixtures("helper")
def test_a_line_of_fstab_is_mounted_and_unmounted(tmp_path: Path) -> None:
    root = tmp_path / "the artifacts"
    (root / "exp-1").mkdir(parents=True)
    (root / "exp-1/x.log").write_text("hello\n")
    settle(root / "exp-1/x.log")
    fstab = tmp_path / "fstab"
    with Sshd() as sshd, stranger(sshd):
        mounted = Mounted(sshd, root, tmp_path)
        environment = {**mounted.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
        source = f"{sshd.user}@127.0.0.1:{root}".replace(" ", "\\040")
        options = f"noauto,user,_netdev,x-systemd.automount,accept_new_host_key,port={sshd.port}"
        options += f",IdentityFile={sshd.user_key},cache_dir={mounted.cache},log_file={mounted.log}"
        fstab.write_text(f"{source} {mounted.path} artisync {options} 0 0\n")

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=60, check=False
            )

        mounted.path.mkdir()
        done = run("mount", "-T", str(fstab), str(mounted.path))
        try:
            assert done.returncode == 0, done.stderr
            assert os.path.ismount(mounted.path)
            assert (mounted.path / "exp-1/x.log").read_text() == "hello\n"
            again = run(str(HELPER), source.replace("\\040", " "), str(mounted.path), "-o", "rw")
            assert again.returncode == 0
            assert "is already mounted" in again.stderr
        finally:
            unmounted = run("umount", str(mounted.path))
        assert unmounted.returncode == 0, unmounted.stderr
        assert not os.path.ismount(mounted.path)
        assert eventually(lambda: run("pgrep", "-f", str(mounted.path)).stdout == "")


@pytest.mark.usefixtures("helper")
def test_a_line_that_cannot_be_mounted_fails_as_mount_does(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    (tmp_path / "mnt").mkdir()

    def mount(options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["mount", "-t", "artisync", "-o", options, "default", str(tmp_path / "mnt")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    missing = mount("ttl=5s")
    assert missing.returncode == 32
    assert "no server yet" in missing.stderr
    wrong = mount("frobnicate")
    assert wrong.returncode == 1
    assert "unknown option 'frobnicate'" in wrong.stderr
